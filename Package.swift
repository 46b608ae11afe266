// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

/// Builds with a sanitizer ask for more (dev/test-sanitized): "thread" for a mutex that ThreadSanitizer knows, "address" for what
/// libFuzzer is guided by. Unset, the manifest has no unsafe flags: SwiftPM accepts none in a package that another depends on by
/// version.
let sanitizer = Context.environment["MMFREED_SANITIZER"]

let strict: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .treatAllWarnings(as: .error),
    ] + (sanitizer == "thread" ? [.define("THREAD_SANITIZER")] : [])
    + (sanitizer == "address"
        ? [
            .define("FUZZER"),
            .unsafeFlags(["-sanitize-coverage=edge,trace-cmp,inline-8bit-counters,pc-table"]),
        ] : [])

/// libFuzzer without its main: the archive's path.
let fuzzer: [LinkerSetting] =
    sanitizer == "address"
    ? [
        .unsafeFlags([Context.environment["MMFREED_FUZZER"] ?? ""]),
        .linkedLibrary("stdc++"),
    ] : []

/// Vector code at -O0 makes tests of a debug build crawl: MMFREED_KERNELS_OPTIMISED is for those (ThreadSanitizer's is one).
let kernelSettings: [CSetting] =
    Context.environment["MMFREED_KERNELS_OPTIMISED"] == nil ? [] : [.unsafeFlags(["-O2"])]

/// A dependency's product, shortened.
func product(_ name: String, _ package: String) -> Target.Dependency {
    .product(name: name, package: package)
}

let nio: [Target.Dependency] = [product("NIOCore", "swift-nio"), product("NIOPosix", "swift-nio")]
let nioEmbedded = product("NIOEmbedded", "swift-nio")
let log = product("Logging", "swift-log")
let arguments = product("ArgumentParser", "swift-argument-parser")
let system = product("SystemPackage", "swift-system")
let metrics = product("CoreMetrics", "swift-metrics")
let crypto = product("Crypto", "swift-crypto")
let deque = product("DequeModule", "swift-collections")
let heap = product("HeapModule", "swift-collections")

/// The HTTP server comes with packages that no other room needs. A build for AddressSanitizer leaves it out: what it measures and
/// fuzzes is elsewhere.
let hasGateway = sanitizer != "address"

let gatewayPackages: [Package.Dependency] =
    hasGateway
    ? [
        .package(
            url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0", traits: []),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ] : []

let http: [Target.Dependency] = [
    product("HummingbirdCore", "hummingbird"), product("HTTPTypes", "swift-http-types"),
    product("NIOExtras", "swift-nio-extras"), product("NIOHTTPTypes", "swift-nio-extras"),
    product("NIOHTTPTypesHTTP1", "swift-nio-extras"), product("NIOHTTP1", "swift-nio"),
    product("ServiceLifecycle", "swift-service-lifecycle"),
]

let gatewayProducts: [Product] =
    hasGateway ? [.executable(name: "mmfree-gateway", targets: ["mmfree-gateway"])] : []

let gatewayTargets: [Target] =
    hasGateway
    ? [
        .target(
            name: "Gateway",
            dependencies: [
                "MMFree", "ChatTemplates", "RPC", "ModelStore", "CLinux", log, system,
            ] + nio + http,
            // In the program, so that there is no file to be found or missed.
            resources: [.embedInCode("HTTP/openapi.json")],
            swiftSettings: strict),
        .executableTarget(
            name: "mmfree-gateway",
            dependencies: [
                "Gateway", "SystemdSupport", "RPC", "ModelStore", arguments, log,
                product("ServiceLifecycle", "swift-service-lifecycle"),
            ] + nio,
            swiftSettings: strict),
        .testTarget(
            name: "GatewayTests",
            dependencies: [
                "TestSupport", "Gateway", "MMFree", "Serving", "Engine", "RPC", "ModelStore", log,
                system,
            ] + nio + http, swiftSettings: strict),
    ] : []

let package = Package(
    name: "mmfreed",
    products: [
        .library(name: "MMFree", targets: ["MMFree"]),
        .executable(name: "mmfreed", targets: ["mmfreed"]),
        .executable(name: "mmfreectl", targets: ["mmfreectl"]),
    ] + gatewayProducts,
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
    ] + gatewayPackages,
    targets: [
        // What the system gives us.
        .systemLibrary(
            name: "CSystemd", pkgConfig: "libsystemd", providers: [.apt(["libsystemd-dev"])]),
        .systemLibrary(
            name: "CProtobufC", pkgConfig: "libprotobuf-c",
            providers: [.apt(["libprotobuf-c-dev"])]),
        .systemLibrary(
            name: "CConfig", pkgConfig: "libconfig", providers: [.apt(["libconfig-dev"])]),
        .target(name: "CLinux"),
        .target(name: "CKernels", cSettings: kernelSettings),
        .target(name: "CMessages", dependencies: ["CProtobufC"]),
        .target(name: "ChatTemplates", swiftSettings: strict),

        // The rooms; docs/architecture.md says what each may know.
        .target(
            name: "ModelStore", dependencies: ["CLinux", system, crypto], swiftSettings: strict),
        .target(
            name: "Packer", dependencies: ["ModelStore", "ChatTemplates", "CKernels", system],
            swiftSettings: strict),
        .target(
            name: "Reference", dependencies: ["Packer", "ModelStore", "CKernels", system],
            swiftSettings: strict),
        .target(name: "Grammar", dependencies: ["ModelStore"], swiftSettings: strict),
        .target(
            name: "Engine", dependencies: ["Grammar", "ModelStore", "CKernels", "CLinux", system],
            swiftSettings: strict),
        .target(
            name: "RPC", dependencies: ["CMessages", "CProtobufC", "CLinux", log, deque] + nio,
            swiftSettings: strict),
        .target(
            name: "Serving",
            dependencies: [
                "RPC", "Engine", "Grammar", "ModelStore", "CLinux", log, metrics, system, deque,
                heap,
            ],
            swiftSettings: strict),
        .target(
            name: "MMFree",
            dependencies: ["RPC", "Engine", "Grammar", "ModelStore", "CLinux", system],
            swiftSettings: strict),
        .target(
            name: "SystemdSupport", dependencies: ["CSystemd", "CLinux", log], swiftSettings: strict
        ),
        .executableTarget(
            name: "mmfreed",
            dependencies: [
                "Serving", "RPC", "Engine", "ModelStore", "SystemdSupport", "CLinux", "CConfig",
                arguments, log, system,
            ], swiftSettings: strict),
        .executableTarget(
            name: "mmfreectl",
            dependencies: [
                "MMFree", "Packer", "Reference", "ModelStore", "ChatTemplates", "Engine", "Grammar",
                "CKernels",
                "CLinux", arguments, system,
            ], swiftSettings: strict),

        // Stands before the allocator in the test program, to count.
        .target(name: "CAllocations", path: "Tests/CAllocations"),
        // Made files and models, temporary directories, seeded random numbers, waiting.
        .target(
            name: "TestSupport",
            dependencies: ["ModelStore", "Packer", "Reference", "CLinux", system],
            path: "Tests/TestSupport", swiftSettings: strict),
        .testTarget(
            name: "ChatTemplatesTests",
            dependencies: ["TestSupport", "ChatTemplates", "ModelStore", system],
            exclude: ["Corpus"],
            swiftSettings: strict),
        .testTarget(
            name: "KernelTests", dependencies: ["CKernels", "Packer", "TestSupport", system],
            swiftSettings: strict),
        .testTarget(
            name: "StoreTests",
            dependencies: [
                "TestSupport", "ModelStore", "Packer", "Reference", "CKernels", "CLinux", system,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "EngineTests",
            dependencies: [
                "TestSupport", "Engine", "Grammar", "Packer", "Reference", "ModelStore", "CKernels",
                "CLinux",
                "CAllocations", system,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "GrammarTests", dependencies: ["TestSupport", "Grammar", "ModelStore"],
            swiftSettings: strict),
        .testTarget(
            name: "RPCTests",
            dependencies: ["TestSupport", "RPC", "CLinux", log, system, nioEmbedded] + nio,
            swiftSettings: strict),
        .testTarget(
            name: "ServingTests",
            dependencies: [
                "TestSupport", "Serving", "RPC", "Engine", "Grammar", "ModelStore", "Packer",
                "CLinux", log,
                metrics, system,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "MMFreeTests",
            dependencies: [
                "TestSupport", "MMFree", "Serving", "RPC", "Engine", "ModelStore", "CLinux", log,
                system,
            ], swiftSettings: strict),
        .testTarget(
            name: "ControlTests",
            dependencies: [
                "TestSupport", "mmfreectl", "MMFree", "RPC", "ModelStore", "ChatTemplates",
                "Packer",
                arguments, system,
            ],
            swiftSettings: strict),
        .testTarget(
            name: "DaemonTests",
            dependencies: [
                "TestSupport", "mmfreed", "SystemdSupport", "Serving", "RPC", "ModelStore", log,
                system,
            ],
            swiftSettings: strict),
        .target(name: "CFuzzer", path: "Tests/CFuzzer"),
        .testTarget(
            name: "FuzzTests",
            dependencies: [
                "TestSupport", "CFuzzer", "Grammar", "ModelStore", "ChatTemplates", "Packer",
                "Engine", "RPC",
                "mmfreed",
                product("NIOCore", "swift-nio"), system,
            ], exclude: ["Corpus"], swiftSettings: strict, linkerSettings: fuzzer),
    ] + gatewayTargets,
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu11
)
