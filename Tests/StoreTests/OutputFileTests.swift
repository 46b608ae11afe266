// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@Suite("Output goes into regular files only, and killed writers leave nothing for long")
struct OutputFileTests {
    private func refusal(_ path: FilePath) -> String {
        do throws(StoreError) {
            try OutputFile.replace(path, with: [1])
        } catch { return error.description }
        Issue.record("\(path) was written")
        return ""
    }

    @Test("devices, FIFOs, sockets, directories and links to them stay what they are")
    func kinds() throws {
        try withDirectory { directory in
            let fifo = directory.appending("fifo")
            #expect(mkfifo(fifo.string, 0o600) == 0)
            let socket = directory.appending("socket")
            #expect(mknod(socket.string, S_IFSOCK | 0o600, 0) == 0)
            for (target, said) in [
                (fifo, "it is a FIFO"), (socket, "it is a socket"),
                (FilePath("/tmp"), "it is a directory"),
                (FilePath("/dev/null"), "it is a device"),
                (FilePath("/proc/nonexistent"), "leads nowhere"),
            ] {
                let link = directory.appending("link")
                #expect(symlink(target.string, link.string) == 0)
                #expect(refusal(link).contains(said))
                if target != "/proc/nonexistent" { #expect(refusal(target).contains(said)) }
                unlink(link.string)
            }
            #expect(names(in: directory) == ["fifo", "socket"])
            var status = stat()
            #expect(stat("/dev/null", &status) == 0 && status.st_mode & S_IFMT == S_IFCHR)
        }
    }

    @Test("an open file is no place: /dev/stdout, /dev/fd and /proc/self/fd")
    func openFiles() throws {
        try withDirectory { directory in
            let path = directory.appending("x")
            let file = try FileDescriptor.open(
                path, .writeOnly, options: [.create], permissions: .ownerReadWrite)
            defer { try? file.close() }
            let link = directory.appending("link")
            #expect(symlink("/proc/self/fd/\(file.rawValue)", link.string) == 0)
            for name in ["/proc/self/fd/\(file.rawValue)", "/dev/fd/\(file.rawValue)", link.string]
            {
                #expect(refusal(FilePath(name)).contains("open already"))
            }
        }
    }

    @Test("names that cannot be are refused before anything is made")
    func impossible() throws {
        try withDirectory { directory in
            #expect(refusal("").contains("the name is empty"))
            #expect(refusal("/").contains("names a directory"))
            #expect(refusal(directory.appending("..")).contains("names a directory"))
            let long = String(repeating: "a", count: 256)
            #expect(refusal(directory.appending(long)).contains("256 bytes long; at most 255"))
            #expect(refusal(directory.appending("a").appending("b")).contains("No such file"))
            try write([1], to: directory.appending("a"))
            #expect(refusal(directory.appending("a").appending("b")).contains("Not a directory"))
            #expect(names(in: directory) == ["a"])
        }
    }

    @Test("a name of 255 bytes is written and replaced")
    func longest() throws {
        try withDirectory { directory in
            let path = directory.appending(String(repeating: "a", count: 255))
            for byte in [UInt8(1), 2] {
                try OutputFile.replace(path, with: [byte])
                #expect(try bytes(of: path) == [byte])
            }
            #expect(names(in: directory).count == 1)
        }
    }

    @Test("a link to a regular file keeps leading to it")
    func link() throws {
        try withDirectory { directory in
            try makeDirectory(directory.appending("d"))
            let file = directory.appending("d").appending("v1")
            try write([1], to: file)
            let link = directory.appending("current")
            #expect(symlink("d/v1", link.string) == 0)
            try OutputFile.replace(link, with: [2])
            #expect(try bytes(of: file) == [2])
            var status = stat()
            #expect(lstat(link.string, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
        }
    }

    @Test("what a killed writer left is removed by the next one; what is being written stays")
    func stale() throws {
        try withDirectory { directory in
            let left = directory.appending(HiddenName.make())
            try write([1], to: left)
            let folder = directory.appending(HiddenName.make())
            try makeDirectory(folder)
            try write([1], to: folder.appending("model.safetensors"))
            let held = directory.appending(HiddenName.make())
            try write([1], to: held)
            let lock = try FileDescriptor.open(held, .readOnly)
            defer { try? lock.close() }
            #expect(HiddenName.claim(lock.rawValue, held))
            try write([1], to: directory.appending(".other-partial-1"))
            try OutputFile.replace(directory.appending("x"), with: [1])
            let rest: [String] = [held.lastComponent!.string, ".other-partial-1", "x"]
            #expect(names(in: directory) == rest.sorted())
        }
    }

    @Test("two writers of one name do not disturb each other")
    func two() throws {
        try withDirectory { directory in
            let path = directory.appending("x")
            var first = try OutputFile(path, replacing: true, nameless: false)
            try OutputFile.replace(path, with: [2])
            try first.write([1], at: 0)
            try first.commit()
            #expect(try bytes(of: path) == [1])
            #expect(names(in: directory) == ["x"])
        }
    }

    @Test("unpacking needs a place of its own: 73 is said before the work")
    func unpack() throws {
        try MadeCheckpoint().open { checkpoint in
            try withDirectory { directory in
                let path = directory.appending("m.gguf")
                _ = try PackJob(checkpoint, to: path).run()
                let file = try PackedFile(path: path)
                for place in ["", "/", "/proc/nonexistent/out"] {
                    let error = #expect(throws: PackError.self) {
                        try UnpackJob(file, to: FilePath(place)).run()
                    }
                    guard case .store(.destination) = error else {
                        Issue.record("\(error!)")
                        continue
                    }
                }
                // A directory that a killed unpacking left.
                let left = directory.appending(HiddenName.make())
                try makeDirectory(left)
                try write([1], to: left.appending("config.json"))
                try UnpackJob(file, to: directory.appending("out")).run()
                #expect(names(in: directory) == ["m.gguf", "out"])
            }
        }
    }
}
