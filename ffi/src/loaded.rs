//! A library that holds zonal and was opened by `dlopen` stays loaded.
//!
//! `dlclose` would unmap a plugin with [`crate::Zonal`], but threads that used it still run our exit hook when they
//! end, and kswapd runs in it. So a constructor asks the loader to keep it, as the linker's
//! `-z nodelete` does. `libzonal.so` is linked with that, and a program is never unloaded: there the loader is not
//! called.
//!
//! Why a constructor: it runs in the thread that has the loader's lock, before anybody can call the library. The
//! first allocation may come in a thread for which another one waits inside the loader, in a signal handler that
//! interrupted the loader, or in a destructor, when what is unmapped is settled.

use core::ffi::{c_char, c_int, c_long, c_void};
use core::mem;

use zonal_numa::weak_symbol;

use crate::unwind::Module;

type Info = unsafe extern "C" fn(*mut c_void, c_int, *mut c_void) -> c_int;
/// `dlmopen`, and not `dlopen`, which `libzonal.so` replaces.
type Open = unsafe extern "C" fn(c_long, *const c_char, c_int) -> *mut c_void;
/// Finds the library by its name among those that are there; no file is opened.
const FLAGS: c_int = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = stay;

/// Keeps the file that this code is in, where it could be unloaded.
extern "C" fn stay() {
    let Some(own) = Module::of(stay as extern "C" fn() as *const () as usize) else { return };
    if own.loaded_as().is_empty() || own.is_never_unloaded() {
        return;
    }
    let (info, open): (*const u8, *const u8) = (weak_symbol!("dlinfo"), weak_symbol!("dlmopen"));
    if info.is_null() || open.is_null() {
        return;
    }
    // SAFETY: glibc's function has this type.
    let info = unsafe { mem::transmute::<*const u8, Info>(info) };
    // SAFETY: as above.
    let open = unsafe { mem::transmute::<*const u8, Open>(open) };
    let mut namespace: c_long = 0;
    // SAFETY: a loaded file's handle; the answer is a `c_long`.
    if unsafe { info(own.handle(), libc::RTLD_DI_LMID, (&raw mut namespace).cast()) } == 0 {
        // SAFETY: the loader's own string. The handle is left open.
        unsafe { open(namespace, own.loaded_as().as_ptr(), FLAGS) };
    }
}
