// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@Suite("What the daemon refuses when it starts", .bounded)
struct DaemonStartTests {
    @Test(
        "a cut of the work that cannot be read: it names the part, and ends as with a bad setting",
        arguments: [
            ("shares=4,few=1", "MMFREED_TUNING has 'few=1': few and many are 16K to 65536K"),
            ("shares=0", "MMFREED_TUNING has 'shares=0': shares is 1 to 64"),
            ("fast", "MMFREED_TUNING has 'fast': it names shares, few, many or fused"),
        ])
    func tuning(_ text: String, _ why: String) throws {
        try Program.withDirectory { directory in
            let result = try Program.run(
                [
                    "--socket", directory + "/s", "--share-socket", directory + "/t", "--models",
                    directory,
                ], of: "mmfreed",
                environment: ["MMFREED_TUNING": text],
                // One that serves does not end.
                shell: #"exec timeout 60 "$0" "$@""#)
            #expect(result.status == 78)
            #expect(result.errors.contains(why))
        }
    }
}
