// mma and ldmatrix, with the fragment layouts of the PTX ISA, "Warp-level matrix instructions": mma.m16n8k16 for
// .f16 and .bf16, mma.m16n8k8 for .tf32, ldmatrix .m8n8 .b16. There, groupID = lane / 4, threadID_in_group = lane % 4.
#include "inside.h"
#include "halves.h"

namespace cuda_on_host {
namespace {

[[noreturn]] void refuse(const char* message) { cuda_on_host_fault(message); }

void require_whole(uint32_t active) {
    if (active != 0xffffffffu) refuse("a matrix instruction needs all 32 lanes of the warp");
}

// D += A B, in the accumulators' fragments.
template <int K>
void multiply(Lane (&lanes)[WARP], const float (&a)[16][K], const float (&b)[K][8]) {
    for (int lane = 0; lane < WARP; ++lane) {
        for (int i = 0; i < 4; ++i) {
            const int row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
            float sum = 0;
            for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
            lanes[lane].d.at[i] += sum;
        }
    }
}

template <float to_float(uint16_t)>
void multiply_m16n8k16(Lane (&lanes)[WARP], uint32_t active) {
    require_whole(active);
    float a[16][16], b[16][8];
    for (int lane = 0; lane < WARP; ++lane) {
        const auto element = [](uint32_t word, int i) { return to_float(static_cast<uint16_t>(word >> 16 * i)); };
        const int group = lane / 4, column = lane % 4 * 2;
        for (int i = 0; i < 8; ++i)
            a[group + 8 * (i / 2 % 2)][column + i % 2 + 8 * (i / 4)] = element(lanes[lane].a.at[i / 2], i % 2);
        for (int i = 0; i < 4; ++i) b[column + i % 2 + 8 * (i / 2)][group] = element(lanes[lane].b.at[i / 2], i % 2);
    }
    multiply(lanes, a, b);
}

void multiply_m16n8k8(Lane (&lanes)[WARP], uint32_t active) {
    require_whole(active);
    float a[16][8], b[8][8];
    for (int lane = 0; lane < WARP; ++lane) {
        const Lane& mine = lanes[lane];
        for (int i = 0; i < 4; ++i) a[lane / 4 + 8 * (i % 2)][lane % 4 + 4 * (i / 2)] = float_of_tf32(mine.a.at[i]);
        for (int i = 0; i < 2; ++i) b[lane % 4 + 4 * i][lane / 4] = float_of_tf32(mine.b.at[i]);
    }
    multiply(lanes, a, b);
}

// Lane 8*m + r names row r of matrix m; register m of a lane gets two neighbours of row groupID, or of column
// groupID where transposed.
template <bool Transposed>
void distribute(Lane (&lanes)[WARP], uint32_t active) {
    require_whole(active);
    uint16_t elements[4][8][8];
    for (int i = 0; i < WARP; ++i) std::memcpy(elements[i / 8][i % 8], lanes[i].row, 16);
    for (int lane = 0; lane < WARP; ++lane) {
        for (int m = 0; m < 4; ++m) {
            const int group = lane / 4, pair = lane % 4 * 2;
            const uint32_t low = Transposed ? elements[m][pair][group] : elements[m][group][pair];
            const uint32_t high = Transposed ? elements[m][pair + 1][group] : elements[m][group][pair + 1];
            lanes[lane].registers.at[m] = low | high << 16;
        }
    }
}

}  // namespace

EXPORT Floats cuda_on_host_mma(Floats d, Words a, Words b, Element element) {
    Lane mine;
    mine.a = a, mine.b = b, mine.d = d;
    collective(&mine, element == HALF       ? multiply_m16n8k16<float_of_half>
                      : element == BFLOAT16 ? multiply_m16n8k16<float_of_bfloat16>
                                            : multiply_m16n8k8);
    return mine.d;
}

EXPORT Words cuda_on_host_load_matrix(const void* row, bool transposed) {
    if (!is_shared(row)) refuse("a matrix is loaded from an address that is not in shared memory");
    cuda_on_host_check(row, 16, READ);
    Lane mine;
    mine.row = row;
    collective(&mine, transposed ? distribute<true> : distribute<false>);
    return mine.registers;
}

}  // namespace cuda_on_host
