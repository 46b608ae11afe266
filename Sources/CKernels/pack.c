// SPDX-License-Identifier: Apache-2.0
//
// Packing and unpacking of R16K4T5 (CKernels.h describes it). Offline work, plain C.
#include "CKernels.h"
#include <string.h>

// Five trits of 0: the digits are all 1.
enum { CK_ZERO_BYTE = 1 + 3 + 9 + 27 + 81, CK_LARGEST_BYTE = 242 };

static const int ck_power[5] = {1, 3, 9, 27, 81};

void ck_pack(const int8_t *trits, size_t rows, size_t columns, uint8_t *out) {
    const size_t vectors = ck_padded_columns(columns) / CK_VECTOR_COLUMNS;
    memset(out, CK_ZERO_BYTE, ck_packed_bytes(rows, columns));
    for (size_t r = 0; r < rows; r++) {
        const int8_t *row = trits + r * columns;
        uint8_t *to = out + (r / CK_TILE_ROWS) * vectors * CK_VECTOR_BYTES + (r % CK_TILE_ROWS) * 4;
        for (size_t k = 0; k < columns; to += CK_VECTOR_BYTES) {
            for (size_t p = 0; p < 5; p++) {
                for (size_t i = 0; i < 4 && k < columns; i++, k++) to[i] = (uint8_t)(to[i] + row[k] * ck_power[p]);
            }
        }
    }
}

void ck_unpack(const uint8_t *packed, size_t rows, size_t columns, int8_t *trits) {
    const size_t vectors = ck_padded_columns(columns) / CK_VECTOR_COLUMNS;
    for (size_t r = 0; r < rows; r++) {
        int8_t *row = trits + r * columns;
        const uint8_t *from = packed + (r / CK_TILE_ROWS) * vectors * CK_VECTOR_BYTES + (r % CK_TILE_ROWS) * 4;
        for (size_t k = 0; k < columns; from += CK_VECTOR_BYTES) {
            for (size_t p = 0; p < 5; p++) {
                for (size_t i = 0; i < 4 && k < columns; i++, k++) row[k] = (int8_t)(from[i] / ck_power[p] % 3 - 1);
            }
        }
    }
}

size_t ck_check_packed(const uint8_t *packed, size_t count) {
    size_t k = 0;
    // Whole runs first, without a branch inside, so that the compiler makes vectors of it.
    for (; k + 256 <= count; k += 256) {
        uint8_t largest = 0;
        for (size_t i = 0; i < 256; i++) largest = packed[k + i] > largest ? packed[k + i] : largest;
        if (largest > CK_LARGEST_BYTE) break;
    }
    while (k < count && packed[k] <= CK_LARGEST_BYTE) k++;
    return k;
}
