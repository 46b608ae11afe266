// SPDX-License-Identifier: Apache-2.0

/// Filters that are known.
enum Filter: String, CaseIterable, Sendable {
    case abs, capitalize, count, d, `default`, dictsort, first, float, indent, int, items, join
    case last, length, list, lower, map, max, min, reject, rejectattr, replace, reverse, round, safe
    case select, selectattr, sort, string, sum, title, tojson, trim, unique, upper
}

/// Tests (`is …`) that are known.
enum ValueTest: String, CaseIterable, Sendable {
    case boolean, callable, defined, divisibleby, even, `false`, float, `in`, integer, iterable
    case lower, mapping, none, number, odd, sameas, sequence, string, `true`, undefined, upper
    case eq, equalto, ne, lt, lessthan, le, gt, greaterthan, ge
    case equalSign = "=="
    case notEqualSign = "!="
    case lessSign = "<"
    case lessOrEqualSign = "<="
    case greaterSign = ">"
    case greaterOrEqualSign = ">="
}

/// Methods of values that are known: those of Python that change nothing.
enum Method: String, CaseIterable, Sendable {
    // Of text.
    case capitalize, count, endswith, find, index, isalnum, isalpha, isdigit, islower, isspace
    case isupper, join, lower, lstrip, partition, removeprefix, removesuffix, replace, rfind
    case rpartition, rsplit, rstrip, split, splitlines, startswith, strip, title, upper, zfill
    // Of mappings.
    case get, items, keys, values
    // Of loops.
    case cycle, changed

    /// Methods of Python's that its sandbox does not allow, as they change what they are called on.
    static let changing: Set<String> = [
        "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove", "popitem",
        "setdefault", "update", "add", "discard",
    ]

    /// Attributes of values that are methods in Python: there `x.copy` is one, even where x has an item of that name.
    static let ofText: Set<String> = [
        "capitalize", "casefold", "center", "count", "encode", "endswith", "expandtabs", "find",
        "format", "format_map", "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit",
        "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper",
        "join", "ljust", "lower", "lstrip", "maketrans", "partition", "removeprefix",
        "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip",
        "split", "splitlines", "startswith", "strip", "swapcase", "title", "translate", "upper",
        "zfill",
    ]
    static let ofMappings: Set<String> = [
        "clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault",
        "update", "values",
    ]
    static let ofLists: Set<String> = [
        "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse",
        "sort",
    ]
    static let ofTuples: Set<String> = ["count", "index"]
    static let ofNumbers: Set<String> = [
        "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes",
        "fromhex", "hex", "imag", "is_integer", "numerator", "real", "to_bytes",
    ]
}

/// Functions that every template has.
enum Builtin: String, CaseIterable, Sendable {
    case range, dict, namespace
    case raiseException = "raise_exception"
    case strftimeNow = "strftime_now"

    /// Functions of Jinja's that are not known here.
    static let unsupported: Set<String> = ["lipsum", "cycler", "joiner"]
}
