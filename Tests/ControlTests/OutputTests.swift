// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// What mmfreectl says when its standard output cannot be written.
@Suite("output that cannot be written")
struct OutputTests {
    static let verbs: [[String]] = [
        ["--help"], ["--version"], ["help", "pack"], ["generate", "--help"],
        ["--generate-completion-script", "bash"], ["inspect", Program.demo],
        ["inspect", "--json", "--tensors", Program.demo], ["verify", Program.demo],
        ["verify", "--json", Program.demo],
        ["perplexity", Program.demo, "--text", #filePath, "--limit", "3"],
        ["logits", Program.demo, "--tokens", "1,2", "-o", "-"],
        ["bench", Program.demo, "--repetitions", "1", "--batch", "1", "--prompt", "16"],
    ]

    @Test("a full disk is named, and the status is 74", arguments: verbs)
    func full(_ arguments: [String]) throws {
        let result = try Program.run(arguments, shell: #"exec "$0" "$@" >/dev/full"#)
        #expect(result.status == 74)
        #expect(
            result.errors.hasSuffix(
                "mmfreectl: cannot write standard output: No space left on device\n"))
    }

    @Test(
        "so are a closed descriptor and a reader that is gone",
        arguments: [["--help"], ["inspect", Program.demo], ["verify", Program.demo]])
    func closed(_ arguments: [String]) throws {
        let closed = try Program.run(arguments, shell: #"exec "$0" "$@" >&-"#)
        #expect(closed.status == 74)
        #expect(closed.errors.hasSuffix("cannot write standard output: Bad file descriptor\n"))
        let gone = try Program.run(
            arguments, shell: #"exec 3>&1; { "$0" "$@"; echo "status=$?" >&3; } | true; wait"#)
        // The reader may still be there when a short text is written.
        if gone.output.contains("status=0") { return }
        #expect(gone.output.contains("status=74"))
        #expect(gone.errors.contains("cannot write standard output: Broken pipe"))
    }

    @Test("a closed descriptor is not the next file's")
    func descriptors() throws {
        try Program.withDirectory { directory in
            let file = directory + "/logits.npy"
            let result = try Program.run(
                ["logits", Program.demo, "--tokens", "1,2", "-o", file],
                shell: #"exec "$0" "$@" <&- >&- 2>&-"#)
            #expect(result.status == 0)
            let bytes = try Data(contentsOf: URL(fileURLWithPath: file))
            #expect(bytes.count == 128 + 2 * 4096 * 4)
            #expect(bytes.starts(with: [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]))
        }
    }

    @Test("standard error that cannot be written ends nothing")
    func errors() throws {
        for redirection in ["2>/dev/full", "2>&-"] {
            let result = try Program.run(
                ["verify", Program.demo], shell: #"exec "$0" "$@" "# + redirection)
            #expect(result.status == 0)
            #expect(result.output.contains("are as they were written"))
        }
    }

    @Test("what the daemon answers, too")
    func daemon() throws {
        try Program.withDaemon { environment in
            for arguments in [
                ["models"], ["models", "--json"], ["status"], ["tokenize", "a"],
                ["detokenize", "5,6"], ["embed", "a"], ["generate", "-n", "3", "a"],
                ["generate", "--json", "-n", "3", "a"], ["default"], ["reload"],
            ] {
                let result = try Program.run(
                    arguments, environment: environment, shell: #"exec "$0" "$@" >/dev/full"#)
                #expect(result.status == 74, "\(arguments)")
                #expect(
                    result.errors.contains("cannot write standard output: No space left on device"),
                    "\(arguments)")
            }
        }
    }

    @Test("a file is replaced whole, a link's target with it; a device stays what it is")
    func files() throws {
        try Program.withDirectory { directory in
            let line = ["logits", Program.demo, "--tokens", "1", "-o"]
            let device = try Program.run(line + ["/dev/full"])
            #expect(device.status == 73)
            #expect(device.errors.contains("/dev/full"))
            let through = try Program.run(line + ["-"], shell: #"exec "$0" "$@" | wc -c"#)
            #expect(through.output == "\(128 + 4096 * 4)\n")
            let link = directory + "/link"
            try Data("old".utf8).write(to: URL(fileURLWithPath: directory + "/target"))
            try #require(symlink("target", link) == 0)
            #expect(try Program.run(line + [link]).status == 73)
            #expect(try Program.run(line + [link, "--force"]).status == 0)
            let attributes = try FileManager.default.attributesOfItem(atPath: link)
            #expect(attributes[.type] as? FileAttributeType == .typeSymbolicLink)
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: directory).sorted() == [
                    "link", "target",
                ])
            #expect(try Program.run(line + [directory + "/no/x.npy"]).status == 73)
        }
    }
}
