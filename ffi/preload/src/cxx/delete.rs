//! `operator delete` in its twelve forms.

use core::ffi::c_void;

use zonal::abi;

use crate::c;
use crate::front::{is_replaced, pass_on};
use crate::glibc::Glibc;

/// `operator delete`: the first argument is all we need, and a size, which is compared and not believed.
/// What stands behind `or` does it where something is replaced, and gets the arguments of its own.
macro_rules! operator_delete {
    ($(
        $(#[$place:meta])? $name:ident ($($arg:ident),*)
            = $free:ident ($($told:ident),*) or $everybodys:ident ($($pass:ident),*);
    )*) => {$(
        /// # Safety
        /// C++'s contract.
        #[unsafe(no_mangle)]
        $(#[$place])?
        pub(crate) unsafe extern "C" fn $name(object: *mut c_void, $($arg: usize),*) {
            if is_replaced() {
                /// The function that everybody calls.
                #[unsafe(naked)]
                unsafe extern "C" fn everybodys(object: *mut c_void, $($pass: usize),*) {
                    pass_on!($everybodys)
                }
                // SAFETY: the caller gives the object up.
                return unsafe { everybodys(object, $($pass),*) };
            }
            // SAFETY: the caller gives the object up.
            unsafe { operator_delete!(@ $free object $(, $told)*) }
        }
    )*};
    (@ free $object:ident) => { abi::free::<Glibc>($object.cast()) };
    (@ sized $object:ident, $size:ident) => { abi::free_sized::<Glibc>($object.cast(), $size, 1) };
    (@ sized $object:ident, $size:ident, $align:ident) => {
        abi::free_sized::<Glibc>($object.cast(), $size, c::told_align($align))
    };
}

operator_delete! {
    #[unsafe(link_section = ".text.zonal_delete")]
    _ZdlPv() = free() or free();
    _ZdaPv() = free() or _ZdlPv();
    _ZdlPvRKSt9nothrow_t(_nothrow) = free() or _ZdlPv();
    _ZdaPvRKSt9nothrow_t(_nothrow) = free() or _ZdaPv();
    _ZdlPvSt11align_val_t(_align) = free() or free();
    _ZdaPvSt11align_val_t(align) = free() or _ZdlPvSt11align_val_t(align);
    _ZdlPvSt11align_val_tRKSt9nothrow_t(align, _nothrow) = free() or _ZdlPvSt11align_val_t(align);
    _ZdaPvSt11align_val_tRKSt9nothrow_t(align, _nothrow) = free() or _ZdaPvSt11align_val_t(align);
    #[unsafe(link_section = ".text.zonal_delete_sized")]
    _ZdlPvm(size) = sized(size) or _ZdlPv();
    _ZdaPvm(size) = sized(size) or _ZdaPv();
    _ZdlPvmSt11align_val_t(size, align) = sized(size, align) or _ZdlPvSt11align_val_t(align);
    _ZdaPvmSt11align_val_t(size, align) = sized(size, align) or _ZdaPvSt11align_val_t(align);
}
