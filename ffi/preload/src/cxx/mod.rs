//! C++: operator new and delete in all 20 forms.
//!
//! `new` that finds no memory must call the new-handler, perhaps many times, and throw
//! `std::bad_alloc`; the nothrow forms must catch what the handler throws. All this is in the C++
//! library's own operators, and those get their memory from malloc, which is ours. So a `new` of
//! ours tries once ([`new`]), and on failure jumps to the library's ([`throwing`]). The jump leaves no frame of
//! ours on the stack, so the exception meets no Rust.
//!
//! Where the program has replaced what a form stands on ([`crate::front`]), each form goes to what everybody
//! calls by the name of the one below it: in the end to malloc and free. Only nothrow forms of a replaced
//! `new` are the library's, since they have to catch.
//!
//! Sized forms of `delete` compare the size and do not trust it ([`delete`]).

mod delete;
mod new;
mod throwing;

/// What everybody calls by these names.
mod everybodys {
    use core::ffi::c_void;

    use crate::front::pass_on;

    macro_rules! everybodys {
        ($($function:ident($($arg:ident),*) $(-> $ret:ty)? = $name:ident;)*) => {$(
            #[unsafe(naked)]
            pub(super) unsafe extern "C-unwind" fn $function($($arg: usize),*) $(-> $ret)? {
                pass_on!($name)
            }
        )*};
    }

    everybodys! {
        malloc(size) -> *mut c_void = malloc;
        aligned_alloc(align, size) -> *mut c_void = aligned_alloc;
        new(size) -> *mut c_void = _Znwm;
        new_array(size) -> *mut c_void = _Znam;
        aligned_new(size, align) -> *mut c_void = _ZnwmSt11align_val_t;
        aligned_new_array(size, align) -> *mut c_void = _ZnamSt11align_val_t;
    }
}
