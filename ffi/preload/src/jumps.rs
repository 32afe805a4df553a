//! longjmp and its kin, so that a jump out of a handler does not tear a call of ours: it waits for
//! the end of that call, see `zonal`'s module `jump`.

use core::ffi::{CStr, c_int, c_void};
use core::mem;
use core::ptr;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::Relaxed;

use zonal::abi::{self, LongJump};

use crate::loader;

macro_rules! jumps {
    ($($name:ident)*) => {$(
        /// # Safety
        /// POSIX's contract.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(env: *mut c_void, value: c_int) -> ! {
            static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
            const NAME: &str = concat!(stringify!($name), "\0");
            let real = real(&REAL, NAME);
            // SAFETY: the caller's promise.
            unsafe {
                abi::put_off(env, value, real);
                real(env, value)
            }
        }
    )*};
}

jumps! { longjmp _longjmp siglongjmp __longjmp_chk }

/// The C library's own, looked up at the first jump; all that look find the same.
fn real(known: &AtomicPtr<c_void>, name: &'static str) -> LongJump {
    let mut found = known.load(Relaxed);
    if found.is_null() {
        let name = CStr::from_bytes_with_nul(name.as_bytes()).unwrap_or_default();
        found = loader::find(name, &[c"libc.so.6"]);
        if found.is_null() {
            abi::die(format_args!("the C library has no {name:?}"));
        }
        known.store(found, Relaxed);
    }
    // SAFETY: the C library's functions of these names have this type.
    unsafe { mem::transmute::<*mut c_void, LongJump>(found) }
}
