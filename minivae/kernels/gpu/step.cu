// What a captured training step keeps in device memory, so that replaying it moves on:
//
//     step[0]  blocks of random numbers drawn so far      step[1]  optimizer steps so far      step[2]  the next batch's first image
//
// Kernels of the step only read it; `advance`, the step's last kernel, is the one that writes, in one thread.

extern "C" __global__ void advance(unsigned long long* step, unsigned long long blocks, unsigned long long batch) {
    step[0] += blocks;
    step[1] += 1;
    step[2] += batch;
}
