//! Which loaded file an address belongs to.
//!
//! glibc 2.35 and later keep a table for exactly this question, read without a lock, from signal
//! handlers too: `_dl_find_object`. The loader's lock, which `dl_iterate_phdr` takes, is never
//! touched: another thread may hold it and wait for memory. Older versions have nothing of the kind;
//! then every answer is none.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem;
use core::ptr;

use zonal_numa::weak_symbol;

/// The loader's public record of a loaded file.
#[repr(C)]
struct LinkMap {
    /// What is added to the addresses in the file.
    l_addr: usize,
    l_name: *const c_char,
    l_ld: *const Dynamic,
}

/// An entry of a file's dynamic section.
#[repr(C)]
struct Dynamic {
    tag: isize,
    value: usize,
}

const DT_NULL: isize = 0;
const DT_FLAGS_1: isize = 0x6fff_fffb;
const DF_1_NODELETE: usize = 8;

/// glibc's answer.
#[repr(C)]
struct Found {
    flags: u64,
    map_start: usize,
    map_end: usize,
    link_map: *const LinkMap,
    eh_frame: usize,
    reserved: [u64; 7],
}

type Find = unsafe extern "C" fn(*const u8, *mut Found) -> c_int;

/// A loaded file: while code of it stands on the stack of the one who asks, it stays loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Module {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Its `.eh_frame_hdr`; 0 if it has none.
    pub(crate) eh_frame_hdr: usize,
    /// What is added to the addresses in the file.
    pub(crate) bias: usize,
    map: *const LinkMap,
}

impl Module {
    /// The file that `addr` lies in.
    pub(crate) fn of(addr: usize) -> Option<Module> {
        let find = finder()?;
        // SAFETY: all zeros is a value of the structure.
        let mut found: Found = unsafe { mem::zeroed() };
        // SAFETY: glibc's function takes any address, and the structure is larger than what it
        // writes.
        let answer = unsafe { find(ptr::without_provenance(addr), &raw mut found) };
        if answer != 0 || found.link_map.is_null() {
            return None;
        }
        // SAFETY: the record of a loaded file.
        let map = unsafe { &*found.link_map };
        Some(Module {
            // Of a program with gaps between its segments only the one of `addr` is told; linkers that leave
            // any put the tables below the code.
            start: if found.eh_frame == 0 {
                found.map_start
            } else {
                found.map_start.min(found.eh_frame)
            },
            end: found.map_end,
            eh_frame_hdr: found.eh_frame,
            bias: map.l_addr,
            map,
        })
    }

    /// The C library and its loader.
    pub(crate) fn of_c_library() -> Option<[Module; 2]> {
        let in_loader: *const u8 = weak_symbol!("__tls_get_addr");
        Some([Module::of(finder()? as *const () as usize)?, Module::of(in_loader.addr())?])
    }

    /// The path that it was loaded from. The loader's name for the program itself is empty; then it
    /// is the one that the program was started by.
    pub(crate) fn name(&self) -> &[u8] {
        let name = self.loaded_as().to_bytes();
        if !name.is_empty() {
            return name;
        }
        // SAFETY: getauxval reads a table that the kernel made.
        let started = unsafe { libc::getauxval(libc::AT_EXECFN) };
        // SAFETY: 0, or the address of a string on the process's first stack.
        unsafe { text(ptr::with_exposed_provenance(started as usize)) }.to_bytes()
    }

    /// The loader's name for it; empty for the program itself.
    pub(crate) fn loaded_as(&self) -> &CStr {
        // SAFETY: null, or a string of the loader's.
        unsafe { text(self.map().l_name) }
    }

    /// Whether it was linked with `-z nodelete`.
    pub(crate) fn is_never_unloaded(&self) -> bool {
        let mut at = self.map().l_ld;
        while !at.is_null() {
            // SAFETY: the dynamic section of a loaded file, which DT_NULL ends.
            let entry = unsafe { &*at };
            match entry.tag {
                DT_NULL => break,
                DT_FLAGS_1 => return entry.value & DF_1_NODELETE != 0,
                // SAFETY: not the last one.
                _ => at = unsafe { at.add(1) },
            }
        }
        false
    }

    /// What `dlopen` would answer.
    pub(crate) fn handle(&self) -> *mut c_void {
        self.map.cast_mut().cast()
    }

    fn map(&self) -> &LinkMap {
        // SAFETY: the record of a loaded file.
        unsafe { &*self.map }
    }

    pub(crate) fn contains(&self, addr: usize) -> bool {
        (self.start..self.end).contains(&addr)
    }
}

/// # Safety
/// `text` is null or a string that lives as long as it is used.
unsafe fn text<'a>(text: *const c_char) -> &'a CStr {
    if text.is_null() {
        return c"";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }
}

fn finder() -> Option<Find> {
    let function: *const u8 = weak_symbol!("_dl_find_object");
    // SAFETY: glibc's function has this type.
    (!function.is_null()).then(|| unsafe { mem::transmute::<*const u8, Find>(function) })
}
