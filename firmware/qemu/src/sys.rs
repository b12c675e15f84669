//! The heap of the test image.

use embedded_alloc::LlffHeap;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

/// For the published model, its session, and the table of kernel cases.
const BYTES: usize = 12 << 20;

/// Gives the heap its memory; to be called once, before anything allocates.
pub fn heap() {
    // SAFETY: called once, first thing in `main`; the memory belongs to nothing else.
    unsafe {
        embedded_alloc::init!(HEAP, BYTES);
    }
}
