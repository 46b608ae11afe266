// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import Glibc
internal import Testing

@Suite("the choice of a table")
struct SelectTests {
    /// Linux refuses a signal stack that does not hold all registers the process may use: the tiles alone have 8 KiB.
    private static var mayUseTiles: Bool {
        var stack = stack_t()
        stack.ss_size = 8192
        stack.ss_sp = malloc(stack.ss_size)
        return sigaltstack(&stack, nil) != 0 && errno == ENOMEM
    }

    @Test(
        "Linux is asked for AMX's tiles by whoever asks for their table, and by nobody else",
        .enabled(if: Table.all.contains { $0.name == "avx512amx" }))
    func tiles() async {
        // Permission is the process's, and stays: in children of this one.
        await #expect(processExitsWith: .exitCode(0)) {
            for name in ["scalar", "avx2", "avx512vnni", "avx512gfni"] { _ = ck_named(name) }
            exit(SelectTests.mayUseTiles ? 1 : 0)
        }
        await #expect(processExitsWith: .exitCode(1)) {
            _ = ck_named("avx512amx")
            exit(SelectTests.mayUseTiles ? 1 : 0)
        }
        await #expect(processExitsWith: .exitCode(1)) {
            _ = ck_best()
            exit(SelectTests.mayUseTiles ? 1 : 0)
        }
    }
}
