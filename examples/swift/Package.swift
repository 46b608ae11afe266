// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

let repository = Context.environment["MMFREED_REPOSITORY"] ?? "https://github.com/mmfreed/mmfreed"
let mmfree = Target.Dependency.product(name: "MMFree", package: "mmfreed")

let package = Package(
    name: "story",
    dependencies: [.package(url: repository, from: "0.1.0")],
    targets: [
        .executableTarget(name: "story", dependencies: [mmfree]),
        .executableTarget(name: "shared-story", dependencies: [mmfree]),
    ])
