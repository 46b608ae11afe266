// SPDX-License-Identifier: Apache-2.0

internal import Engine
internal import Testing

@Suite("How work is cut")
struct TuningTests {
    @Test("the text of a choice says it again")
    func text() throws {
        var tuning = Tuning(try Kernels.select("scalar"))
        try tuning.change("shares=4,few=64K,many=2048K,fused=no")
        #expect(tuning.shares == 4)
        #expect(tuning.fewRowsBytes == 65_536)
        #expect(tuning.manyRowsBytes == 2_097_152)
        #expect(!tuning.isFused)
        #expect(tuning.text == "shares=4,few=64K,many=2048K,fused=no")
        try tuning.change("fused=yes")
        #expect(tuning.text == "shares=4,few=64K,many=2048K,fused=yes")
    }

    @Test(
        "what cannot be read is refused by name",
        arguments: [
            ("shares=0", "shares is 1 to 64"), ("shares=65", "shares is 1 to 64"),
            ("shares", "shares is 1 to 64"), ("few=160", "few and many are 16K to 65536K"),
            ("few=1K", "few and many are 16K to 65536K"),
            ("many=99999999999999999999K", "few and many are 16K to 65536K"),
            ("fused=maybe", "fused is yes or no"),
            ("ahead=2K", "it names shares, few, many or fused"),
        ])
    func refusals(text: String, why: String) throws {
        var tuning = Tuning(try Kernels.select("scalar"))
        #expect(throws: ModelError.badTuning(text, why)) { try tuning.change("shares=2,\(text)") }
    }
}
