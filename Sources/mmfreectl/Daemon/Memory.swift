// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Load: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Have the daemon read a model into memory. For root.",
        discussion:
            "Requests are served meanwhile. New versions of the model will be read into memory too, until `unload`."
    )

    @Argument(
        help: "The model's name. Default: the daemon's default model.",
        completion: .custom { words, _, _ in await Completion.models(words) })
    var name: String?
    @OptionGroup var connection: Connection

    func run() async throws { try await bring(name, pin: false, connection) }
}

struct Pin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Have the daemon lock a model in memory. For root.",
        discussion:
            "As `load`; its pages stay until `unload`. The daemon's limit on locked memory (LimitMEMLOCK=) must allow it."
    )

    @Argument(
        help: "The model's name. Default: the daemon's default model.",
        completion: .custom { words, _, _ in await Completion.models(words) })
    var name: String?
    @OptionGroup var connection: Connection

    func run() async throws { try await bring(name, pin: true, connection) }
}

struct Unload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Have the daemon let go of a model's memory. For root.",
        discussion:
            "Requests under way finish. The next request maps the model again. What other processes have mapped stays in memory."
    )

    @Argument(
        help: "The model's name. Default: the daemon's default model.",
        completion: .custom { words, _, _ in await Completion.models(words) })
    var name: String?
    @OptionGroup var connection: Connection

    func run() async throws {
        try await connection.client().unload(name ?? "")
        Terminal.print("unloaded\(name.map { " \($0)" } ?? "")")
    }
}

/// Has a model read into memory, and shows how far that is.
private func bring(_ name: String?, pin: Bool, _ connection: Connection) async throws {
    enum Event {
        case done(Result<Client.LoadedModel, any Error>)
        case progress(ModelInfo?)
    }
    let (client, progress) = (connection.client(), ProgressLine())
    // As long as a disk takes.
    let timeout: Duration? = connection.timeout == nil ? .seconds(3600) : nil
    let look: @Sendable () async -> Event = {
        try? await Task.sleep(for: .milliseconds(200))
        let models = try? await client.models()
        return .progress(models?.first { name == nil ? $0.isDefault : $0.name == name })
    }
    let result: Result<Client.LoadedModel, any Error> = await withTaskGroup(of: Event.self) {
        group in
        group.addTask {
            do {
                return .done(
                    .success(try await client.load(name ?? "", pin: pin, timeout: timeout)))
            } catch {
                return .done(.failure(error))
            }
        }
        group.addTask(operation: look)
        while true {
            switch await group.next() {
            case .done(let result):
                group.cancelAll()
                return result
            case .progress(let model):
                if let model, model.loadedBytes > 0 {
                    progress.show(Int(model.loadedBytes), of: Int(model.fileBytes), model.name)
                }
                group.addTask(operation: look)
            case nil: return .failure(CancellationError())
            }
        }
    }
    progress.clear()
    let answer = try result.get()
    Terminal.print(
        "\(Terminal.harmless(answer.name)): \(Terminal.bytes(answer.bytes)) \(pin ? "locked" : "read") in memory"
    )
}
