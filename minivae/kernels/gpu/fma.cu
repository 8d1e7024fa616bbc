// The arithmetic of a tile in float32: every thread keeps a square of C in registers, 4 x 4 numbers, or 8 x 8 of a tile of 128 x 128.
//
//     thread (ty, tx) owns rows 4 ty ... 4 ty + 3, and of a tile of 128 x 128 also rows 64 + those; columns likewise with tx.
//     A step reads 4 or 8 numbers of A and of B, four at a time, for 16 or 64 multiply-adds.

template <int ROWS, int COLUMNS> struct Core {
    static constexpr int PER = ROWS * COLUMNS == 128 * 128 ? 8 : 4, ACROSS = COLUMNS / PER;  // threads
    static constexpr int SIZE = PER * PER;
    float c[PER][PER];

    __device__ __forceinline__ float* numbers() { return &c[0][0]; }

    __device__ __forceinline__ Core() {
        for (int i = 0; i < PER; ++i)
            for (int j = 0; j < PER; ++j) c[i][j] = 0;
    }

    __device__ __forceinline__ static float rounded(float number) { return number; }

    __device__ __forceinline__ static void read_four(const float* panel, float* registers) {
        float4 four = *(const float4*)panel;
        registers[0] = four.x, registers[1] = four.y, registers[2] = four.z, registers[3] = four.w;
    }

    __device__ __forceinline__ static int ty() { return (int)threadIdx.x / ACROSS; }
    __device__ __forceinline__ static int tx() { return (int)threadIdx.x % ACROSS; }
    __device__ __forceinline__ static int owned(int thread, int i) { return i / 4 * 64 + thread * 4 + i % 4; }

    __device__ __forceinline__ void add(const float (*a)[ROWS + PAD], const float (*b)[COLUMNS + PAD]) {
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            float of_a[PER], of_b[PER];
#pragma unroll
            for (int i = 0; i < PER; i += 4) {
                read_four(a[k] + owned(ty(), i), of_a + i);
                read_four(b[k] + owned(tx(), i), of_b + i);
            }
#pragma unroll
            for (int i = 0; i < PER; ++i)
#pragma unroll
                for (int j = 0; j < PER; ++j) c[i][j] += of_a[i] * of_b[j];
        }
    }

    template <class Result> __device__ __forceinline__ void put(const Result& result, int i0, int j0) const {
#pragma unroll
        for (int i = 0; i < PER; ++i)
#pragma unroll
            for (int j = 0; j < PER; ++j) result.put(i0 + owned(ty(), i), j0 + owned(tx(), j), c[i][j]);
    }
};
