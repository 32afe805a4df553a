// The functions that others of ours stand on, and that a program may replace: for `front.rs`, which asks who
// has each, and for `build.rs`, which gives ours a second name.

macro_rules! replaceable {
    ($for_groups:ident) => {
        $for_groups! {
            [malloc free aligned_alloc _ZdlPv _ZdaPv _ZdlPvSt11align_val_t _ZdaPvSt11align_val_t]
            [_Znwm _Znam]
            [_ZnwmSt11align_val_t _ZnamSt11align_val_t]
        }
    };
}
