// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// A request's members, read by name. What has not been read in the end is refused by name: it might have changed the answer.
struct Fields {
    private let members: [JSON.Member]
    /// "messages[2]." for what lies inside the request.
    private let place: String
    private var known: Set<String> = []

    init(_ bytes: [UInt8]) throws(APIError) {
        let json: JSON
        do { json = try JSON(parsing: bytes) } catch {
            throw APIError(
                400, "invalid_json", "the body is not JSON: \(error.what), at byte \(error.offset)")
        }
        guard let members = json.members else {
            throw APIError(400, "invalid_json", "the body is \(json.kind), not an object")
        }
        self.init(members, "")
    }

    init(_ members: [JSON.Member], _ place: String) {
        self.members = members
        self.place = place
    }

    /// A member's name for errors.
    func param(_ name: String) -> String { place + name }

    /// A member's value; `nil` also for null.
    mutating func value(_ name: String) -> JSON? {
        known.insert(name)
        let value = members.first { $0.name.utf8.elementsEqual(name.utf8) }?.value
        return value?.isNull == true ? nil : value
    }

    private func wrong(_ name: String, _ value: JSON, _ wanted: String) -> APIError {
        .invalid(param(name), "\(value.kind) where \(wanted) belongs", code: "invalid_type")
    }

    mutating func string(_ name: String) throws(APIError) -> String? {
        guard let value = value(name) else { return nil }
        guard let text = value.string else { throw wrong(name, value, "a string") }
        return text
    }

    mutating func bool(_ name: String) throws(APIError) -> Bool? {
        guard let value = value(name) else { return nil }
        guard let flag = value.bool else { throw wrong(name, value, "true or false") }
        return flag
    }

    mutating func integer(_ name: String, _ range: ClosedRange<Int>) throws(APIError) -> Int? {
        guard let value = value(name) else { return nil }
        guard let number = value.integer else { throw wrong(name, value, "a whole number") }
        guard range.contains(number) else {
            throw .invalid(
                param(name), "\(number); allowed: \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    mutating func number(_ name: String, _ range: ClosedRange<Double>) throws(APIError) -> Float? {
        guard let value = value(name) else { return nil }
        guard let number = value.number else { throw wrong(name, value, "a number") }
        // Not a number is in no range.
        guard range.contains(number) else {
            throw .invalid(
                param(name), "\(number); allowed: \(range.lowerBound) to \(range.upperBound)")
        }
        return Float(number)
    }

    /// A string, or a list of strings.
    mutating func strings(_ name: String) throws(APIError) -> [String] {
        guard let value = value(name) else { return [] }
        if let text = value.string { return [text] }
        guard let items = value.array else {
            throw wrong(name, value, "a string or a list of them")
        }
        var texts: [String] = []
        for (index, item) in items.enumerated() {
            guard let text = item.string else { throw wrong("\(name)[\(index)]", item, "a string") }
            texts.append(text)
        }
        return texts
    }

    mutating func object(_ name: String) throws(APIError) -> Fields? {
        guard let value = value(name) else { return nil }
        guard let members = value.members else { throw wrong(name, value, "an object") }
        return Fields(members, param(name) + ".")
    }

    /// A map from numbers to numbers, as strings are the only names JSON has.
    mutating func biases(_ name: String) throws(APIError) -> [UInt32: Float] {
        guard let value = value(name) else { return [:] }
        guard let members = value.members else { throw wrong(name, value, "an object") }
        var biases: [UInt32: Float] = [:]
        for member in members {
            // One spelling each, so that no token comes twice.
            guard let token = UInt32(member.name), member.name == "\(token)" else {
                throw .invalid(param(name), "\"\(printable(member.name))\" is not a token's number")
            }
            guard let bias = member.value.number, (-100...100).contains(bias) else {
                throw .invalid(
                    param("\(name).\(token)"),
                    "\(member.value.brief); allowed: -100 to 100")
            }
            // OpenAI: -100 bans a token.
            biases[token] = bias == -100 ? -.infinity : Float(bias)
        }
        return biases
    }

    /// Members that change nothing in the answer, whatever they say.
    mutating func ignore(_ names: String...) { known.formUnion(names) }

    /// Members that ask for nothing while they are null, false, 0 or empty, and are refused otherwise.
    mutating func refuse(_ name: String, _ why: String) throws(APIError) {
        guard let value = value(name), !value.isOff else { return }
        throw .invalid(param(name), why, code: "unsupported_parameter")
    }

    /// Refuses what nobody has asked about.
    func finish() throws(APIError) {
        for member in members where !known.contains(member.name) && !member.value.isNull {
            throw .invalid(
                param(printable(member.name)),
                "it is not known here, and might change the answer", code: "unknown_parameter")
        }
    }
}
