// A batch of images out of a data set that lives on the device as bytes: row r of the batch is image order[first + r], over 255.
//
//     images  [ 0 | 1 | 2 | ... | N-1 ]  uint8        order  a permutation, drawn once an epoch        batch  float32
//
// `first` is added to step[2] where a captured step asks for it (tally.cu).  One thread a pixel, a row's pixels side by side.
#include "common.cu"

extern "C" __global__ void gather(const unsigned long long* step, const unsigned char* images, const long long* order, float* batch,
                                  long long* index, long long first, long long rows, long long pixels, long long count, long long length) {
    if (step) first += (long long)step[2];
    EACH(i, rows * pixels) {
        long long image = order[(first + i / pixels) % length];
        if (i % pixels == 0) index[i / pixels] = image;
        // an index outside of the data set would read another program's memory: it shows up as NaN instead
        batch[i] = image >= 0 && image < count ? (float)images[image * pixels + i % pixels] / 255.0f : __int_as_float(0x7fc00000);
    }
}
