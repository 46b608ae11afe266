// SPDX-License-Identifier: Apache-2.0

import Foundation
import MMFree
import RPC
import Testing

@testable import mmfreectl

@Suite("which socket")
struct SocketTests {
    private func choose(
        _ option: String? = nil, _ environment: [String: String] = [:]
    ) throws -> SocketChoice {
        try SocketChoice(given: option, name: "--socket") { environment[$0] }
    }

    @Test("the option, else the variable, else the system's, else one's own")
    func order() throws {
        let variables = ["MMFREED_SOCKET": "/v", "XDG_RUNTIME_DIR": "/run/user/1"]
        #expect(try choose("/o", variables).paths == ["/o"])
        #expect(try choose(nil, variables).paths == ["/v"])
        #expect(
            try choose(nil, ["MMFREED_SOCKET": "", "XDG_RUNTIME_DIR": "/run/user/1"]).paths
                == ["/run/mmfreed/mmfreed.sock", "/run/user/1/mmfreed.sock"])
        #expect(try choose().paths == ["/run/mmfreed/mmfreed.sock"])
        #expect(try choose(nil, ["XDG_RUNTIME_DIR": "relative"]).paths.count == 1)
    }

    @Test(
        "a path may be written as other programs write it",
        arguments: [
            ("/a/b", "/a/b"), ("a", "a"), ("unix:///a/b", "/a/b"), ("unix:/a", "/a"),
            ("unix:a/b", "a/b"), ("/a:b", "/a:b"), ("./unix:a", "./unix:a"),
            (String(repeating: "x", count: 103), String(repeating: "x", count: 103)),
        ])
    func spellings(_ text: String, _ path: String) throws {
        #expect(try choose(text).paths == [path])
        #expect(try choose(nil, ["MMFREED_SOCKET": text]).paths == [path])
    }

    @Test(
        "what is no path is refused, and why",
        arguments: [
            ("", "--socket: it is empty: write the path"), ("unix:", "--socket: it is empty"),
            ("unix://a/b", "takes an absolute path"), ("unix://", "takes an absolute path"),
            ("http://localhost:80", "a Unix socket only; write the path alone"),
            ("tcp://[::1]:1", "a Unix socket only"), ("unix-abstract:x", "a Unix socket only"),
            ("@mmfreed", "an abstract socket; the daemon listens at a path only"),
            ("unix:@mmfreed", "an abstract socket"),
            (
                String(repeating: "x", count: 104),
                "too long: a socket's path has at most 103 bytes, this has 104"
            ),
            ("/" + String(repeating: "ü", count: 60), "at most 103 bytes, this has 121"),
            ("unix:///" + String(repeating: "x", count: 120), "this has 121"),
        ])
    func refused(_ text: String, _ words: String) {
        do {
            _ = try choose(text)
            Issue.record("accepted")
        } catch {
            let failure = Failure(error)
            #expect(failure?.status == .usage)
            #expect(failure?.message.contains(words) == true, "\(error)")
        }
    }

    @Test("what stands at the path is called what it is")
    func faults() throws {
        try Program.withDirectory { directory in
            let file = directory + "/file"
            try Data().write(to: URL(fileURLWithPath: file))
            try #require(mkfifo(directory + "/fifo", 0o600) == 0)
            try #require(symlink("nowhere", directory + "/link") == 0)
            func fault(_ name: String) -> String? { SocketChoice.fault(of: directory + name) }
            #expect(fault("/file") == "\(file) is a regular file, not a socket")
            #expect(fault("/fifo") == "\(directory)/fifo is a FIFO, not a socket")
            #expect(
                fault("/link")
                    == "\(directory)/link is a symbolic link to something that is not there")
            #expect(fault("") == "\(directory) is a directory, not a socket")
            #expect(fault("/") == "\(directory)/ is a directory, not a socket")
            #expect(SocketChoice.fault(of: "/dev/null") == "/dev/null is a device, not a socket")
            #expect(fault("/none") == nil)
            #expect(
                fault("/no/s")
                    == "no daemon is listening on \(directory)/no/s: there is no directory \(directory)/no"
            )
            #expect(fault("/file/s")?.contains("/file/s: Not a directory") == true)
            try Data().write(to: URL(fileURLWithPath: directory + "/mmfreed.sock"))
            #expect(fault("")?.hasSuffix("did you mean \(directory)/mmfreed.sock?") == true)
        }
    }

    @Test("when nobody is there, the message says how to start one")
    func absent() throws {
        let missing = "/proc/nonexistent-\(getpid())"
        let root = try choose().failure([.noSocket(SocketChoice.system)])
        #expect(root.message.hasPrefix("no daemon is listening on /run/mmfreed/mmfreed.sock. "))
        #expect(root.message.contains("systemctl start mmfreed.socket"))
        #expect(root.message.contains("mmfreed --socket /tmp/mmfreed.sock --models DIRECTORY"))
        #expect(Failure(root)?.status == .unavailable)
        let own = try choose(nil, ["XDG_RUNTIME_DIR": missing]).failure([
            .noSocket(SocketChoice.system), .noSocket(missing + "/mmfreed.sock"),
        ])
        #expect(
            own.message.hasPrefix(
                "no daemon is listening on /run/mmfreed/mmfreed.sock, nor on \(missing)/mmfreed.sock. "
            ))
        #expect(
            own.message.contains("`mmfreed --socket \(missing)/mmfreed.sock --models DIRECTORY`"))
        let named = try choose("/tmp/x.sock").failure([.refused("/tmp/x.sock")])
        #expect(named.message.contains("`mmfreed --socket /tmp/x.sock --models DIRECTORY`"))
        let denied = try choose().failure([.notAllowed(SocketChoice.system)])
        #expect(Failure(denied)?.status == .noPermission)
        #expect(denied.message.contains("adduser $USER mmfree"))
    }

    @Test("a command with a wrong socket says what is wrong, at once")
    func program() throws {
        try Program.withDirectory { directory in
            for (socket, words, status) in [
                ("/etc/passwd", "/etc/passwd is a regular file, not a socket", Int32(69)),
                (directory, "is a directory, not a socket", 69), ("unix://x", "absolute path", 64),
                (directory + "/" + String(repeating: "y", count: 120), "at most 103 bytes", 64),
            ] {
                let result = try Program.run(["models"], environment: ["MMFREED_SOCKET": socket])
                #expect(result.status == status)
                #expect(result.errors.contains(words))
                #expect(result.output.isEmpty)
            }
        }
    }
}
