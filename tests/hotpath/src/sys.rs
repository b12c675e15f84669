//! What a program calls between opening a session and closing it, as a library that is looked through for panics
//! (`cargo xtask panics`). Nothing runs it.
#![no_std]

use viseme_engine::kernels::{Kernels, detect};
use viseme_engine::session::{PushError, Session};
use viseme_engine::stream::{Stream, StreamError};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Which kernels a session calls is known only while it runs: all of this target are.
#[unsafe(no_mangle)]
pub fn hot_kernels() -> &'static dyn Kernels {
    detect()
}

#[unsafe(no_mangle)]
pub fn hot_push_crop(session: &mut Session<'_>, crop: &[u8], time: u64) -> Result<(), PushError> {
    session.push_crop(crop, time)
}

#[unsafe(no_mangle)]
pub fn hot_push_features(
    session: &mut Session<'_>,
    features: &[f32],
    time: u64,
) -> Result<(), PushError> {
    session.push_features(features, time)
}

#[unsafe(no_mangle)]
pub fn hot_finish(session: &mut Session<'_>) {
    session.finish();
}

#[unsafe(no_mangle)]
pub fn hot_logits<'s>(session: &'s mut Session<'_>) -> (&'s [f32], &'s [u64]) {
    session.timed_logits()
}

#[unsafe(no_mangle)]
pub fn hot_timestamps<'s>(session: &'s Session<'_>) -> &'s [u64] {
    session.timestamps()
}

#[unsafe(no_mangle)]
pub fn hot_reset(session: &mut Session<'_>) {
    session.reset();
}

#[unsafe(no_mangle)]
pub fn hot_stream_crop<'s>(
    stream: &'s mut Stream<'_>,
    crop: &[u8],
    time: u64,
) -> Result<&'s [f32], PushError> {
    stream.push_crop(crop, time)
}

#[unsafe(no_mangle)]
pub fn hot_stream_features<'s>(
    stream: &'s mut Stream<'_>,
    features: &[f32],
    time: u64,
) -> Result<&'s [f32], PushError> {
    stream.push_features(features, time)
}

#[unsafe(no_mangle)]
pub fn hot_stream_finish(stream: &mut Stream<'_>) -> bool {
    stream.finish().next().is_empty()
}

#[unsafe(no_mangle)]
pub fn hot_stream_timestamp(stream: &Stream<'_>, row: usize) -> Option<u64> {
    stream.timestamp(row)
}

#[unsafe(no_mangle)]
pub fn hot_stream_reset(stream: &mut Stream<'_>) {
    stream.reset();
}

#[unsafe(no_mangle)]
pub fn hot_stream_save(stream: &Stream<'_>, to: &mut [u8]) -> Result<(), StreamError> {
    stream.save(to)
}

#[unsafe(no_mangle)]
pub fn hot_stream_restore(stream: &mut Stream<'_>, from: &[u8]) -> Result<(), StreamError> {
    stream.restore(from)
}
