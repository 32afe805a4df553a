//! What glibc tells about its heap, told about ours.

use core::ffi::{c_int, c_void};
use core::fmt::{self, Write};

use zonal::abi::{self, Usage};

/// Of `struct mallinfo2`; the older `struct mallinfo` has the same fields as ints.
#[repr(C)]
pub(crate) struct Mallinfo<T> {
    arena: T,
    ordblks: T,
    smblks: T,
    hblks: T,
    hblkhd: T,
    usmblks: T,
    fsmblks: T,
    uordblks: T,
    fordblks: T,
    keepcost: T,
}

fn mallinfo_as<T: Default>(convert: impl Fn(usize) -> T) -> Mallinfo<T> {
    let usage = Usage::now();
    Mallinfo {
        arena: convert(usage.zone_bytes),
        ordblks: convert(usage.nr_free_blocks),
        smblks: T::default(),
        hblks: convert(usage.nr_huge),
        hblkhd: convert(usage.huge_bytes),
        usmblks: T::default(),
        fsmblks: T::default(),
        uordblks: convert(usage.used_bytes),
        fordblks: convert(usage.free_bytes),
        keepcost: convert(usage.resident_free_bytes),
    }
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mallinfo2() -> Mallinfo<usize> {
    mallinfo_as(|bytes| bytes)
}

/// Figures beyond an int read as its largest value, where glibc lets them wrap.
///
/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mallinfo() -> Mallinfo<c_int> {
    mallinfo_as(|bytes| c_int::try_from(bytes).unwrap_or(c_int::MAX))
}

/// glibc's parameters mean nothing here. They are accepted, as programs take a refusal for a fault.
///
/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mallopt(_parameter: c_int, _value: c_int) -> c_int {
    1
}

/// Gives all free memory back that can be reached; 1 if there was some. What the program wants to keep at the top of
/// its heap means nothing here.
///
/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn malloc_trim(_pad: usize) -> c_int {
    c_int::from(zonal::trim() > 0)
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn malloc_stats() {
    zonal::print(libc::STDERR_FILENO, zonal::Format::Text);
}

/// Writes XML of the shape that glibc writes.
///
/// # Safety
/// `file` is an open stream.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn malloc_info(options: c_int, file: *mut libc::FILE) -> c_int {
    if options != 0 {
        abi::set_errno(libc::EINVAL);
        return -1;
    }
    match write_info(&mut Stream(file), &Usage::now()) {
        Ok(()) => 0,
        Err(fmt::Error) => -1,
    }
}

fn write_info(out: &mut Stream, usage: &Usage) -> fmt::Result {
    let Usage { zone_bytes, nr_free_blocks, nr_huge, huge_bytes, free_bytes, .. } = *usage;
    let system = zone_bytes + huge_bytes;
    writeln!(out, "<malloc version=\"1\">")?;
    writeln!(out, "<heap nr=\"0\">\n<sizes>")?;
    for (size, free) in usage.classes() {
        let total = size * free;
        writeln!(out, "<size from=\"{size}\" to=\"{size}\" total=\"{total}\" count=\"{free}\"/>")?;
    }
    writeln!(out, "</sizes>")?;
    for heap in ["</heap>", "</malloc>"] {
        writeln!(out, "<total type=\"fast\" count=\"0\" size=\"0\"/>")?;
        writeln!(out, "<total type=\"rest\" count=\"{nr_free_blocks}\" size=\"{free_bytes}\"/>")?;
        if heap == "</malloc>" {
            writeln!(out, "<total type=\"mmap\" count=\"{nr_huge}\" size=\"{huge_bytes}\"/>")?;
        }
        writeln!(out, "<system type=\"current\" size=\"{system}\"/>")?;
        writeln!(out, "<system type=\"max\" size=\"{system}\"/>")?;
        writeln!(out, "<aspace type=\"total\" size=\"{system}\"/>")?;
        writeln!(out, "<aspace type=\"mprotect\" size=\"{system}\"/>")?;
        writeln!(out, "{heap}")?;
    }
    Ok(())
}

/// A stream of the C library.
struct Stream(*mut libc::FILE);

impl Write for Stream {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: `malloc_info`'s caller vouches for the stream; the bytes are those of a slice.
        let written =
            unsafe { libc::fwrite(text.as_ptr().cast::<c_void>(), 1, text.len(), self.0) };
        if written == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
