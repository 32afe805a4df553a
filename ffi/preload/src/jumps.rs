//! longjmp and its kin, so that a jump out of a handler does not tear a call of ours: it waits for
//! the end of that call, see `zonal`'s module `jump`.
//!
//! In the C library `longjmp`, `_longjmp` and `siglongjmp` are one function: what it restores was
//! decided when the place was noted. The real ones are looked up by a constructor, since `dlsym`
//! takes locks, and the first jump may come out of a handler that interrupted their holder. Only
//! a jump from a constructor that ran before ours looks for itself.

use core::ffi::{CStr, c_int, c_void};
use core::mem;
use core::ptr;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::Relaxed;

use zonal::abi::{self, LongJump};

use crate::loader;

/// A function of the C library, once it was looked up; all that look find the same.
struct Real {
    name: &'static CStr,
    place: AtomicPtr<c_void>,
}

static LONGJMP: Real = Real::new(c"longjmp");
static LONGJMP_CHK: Real = Real::new(c"__longjmp_chk");

macro_rules! jumps {
    ($($name:ident: $real:ident)*) => {$(
        /// # Safety
        /// POSIX's contract.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(env: *mut c_void, value: c_int) -> ! {
            let real = $real.get();
            // SAFETY: the caller's promise.
            unsafe {
                abi::put_off(env, value, real);
                real(env, value)
            }
        }
    )*};
}

jumps! {
    longjmp: LONGJMP
    _longjmp: LONGJMP
    siglongjmp: LONGJMP
    __longjmp_chk: LONGJMP_CHK
}

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = look_up;

extern "C" fn look_up() {
    LONGJMP.look_up();
    LONGJMP_CHK.look_up();
}

impl Real {
    const fn new(name: &'static CStr) -> Real {
        Real { name, place: AtomicPtr::new(ptr::null_mut()) }
    }

    fn look_up(&self) -> *mut c_void {
        let found = loader::find(self.name, &[c"libc.so.6"]);
        self.place.store(found, Relaxed);
        found
    }

    fn get(&self) -> LongJump {
        let mut found = self.place.load(Relaxed);
        if found.is_null() {
            found = self.look_up();
        }
        if found.is_null() {
            abi::die(format_args!("the C library has no {:?}", self.name));
        }
        // SAFETY: the C library's functions of these names have this type.
        unsafe { mem::transmute::<*mut c_void, LongJump>(found) }
    }
}
