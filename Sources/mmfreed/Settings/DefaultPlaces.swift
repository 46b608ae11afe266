// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Where things are when nothing says so: the system's places, or, for a user's own daemon, that user's
/// (XDG Base Directory Specification).
struct DefaultPlaces: Equatable {
    /// The main settings file. Drop-ins are in the directory of that name and ".d".
    var config = "/etc/mmfreed/mmfreed.conf"
    /// Drop-ins of packages; those of the administrator hide them.
    var packaged: [String] = ["/usr/lib/mmfreed/mmfreed.conf.d"]
    /// For `socket` and `models`; `nil` where the settings' own defaults count.
    var own: Own?

    struct Own: Equatable {
        let socket: String
        let models: String
    }

    /// - Parameters:
    ///   - user: this process's.
    ///   - owner: whose directory a path is; `nil` if it is none.
    init(
        user: UInt32, environment variable: (String) -> String?, owner: (String) -> UInt32?
    ) {
        // The service manager's daemon has a user of its own, and no such directory.
        guard user != 0, let runtime = Self.path(variable("XDG_RUNTIME_DIR")),
            owner(runtime) == user, let home = Self.path(variable("HOME"))
        else { return }
        let config = Self.path(variable("XDG_CONFIG_HOME")) ?? home + "/.config"
        let data = Self.path(variable("XDG_DATA_HOME")) ?? home + "/.local/share"
        self.config = config + "/mmfreed/mmfreed.conf"
        packaged = []
        own = Own(
            socket: runtime + "/mmfreed.sock", models: data + "/mmfreed/models")
    }

    static func current() -> DefaultPlaces {
        DefaultPlaces(
            user: geteuid(), environment: { getenv($0).map { String(cString: $0) } },
            owner: { path in
                var status = stat()
                guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
                    return nil
                }
                return status.st_uid
            })
    }

    /// Paths that are not absolute are to be ignored.
    private static func path(_ text: String?) -> String? {
        guard let text, text.hasPrefix("/") else { return nil }
        return text
    }

    /// Makes the directory of a user's models, so that there is a place to put them.
    func makeModels() {
        guard let own else { return }
        var path = ""
        for part in own.models.split(separator: "/") {
            path += "/" + part
            mkdir(path, 0o755)
        }
    }
}
