//! Figures of a size class.

use crate::figure::figures;

figures! {
    /// One size class over all heaps, as a line of `/proc/slabinfo`.
    pub struct Class {
        /// Bytes in an object.
        size: Gauge Bytes,
        /// Pages in a slab.
        slab_pages: Gauge Pages,
        /// Slabs.
        nr_slabs: Gauge Count,
        /// Slabs with free objects.
        nr_partial: Gauge Count,
        /// Objects in all slabs.
        nr_objects: Gauge Count,
        /// Objects that are free in their slab.
        nr_free: Gauge Count,
        /// Objects that are free in a bin or on their way back to their owner.
        nr_cached: Gauge Count,
        /// Requests whose size was noted: those that found the bin empty.
        sampled: Counter Count,
        /// Bytes that these asked for.
        sampled_bytes: Counter Bytes,
    }
}

impl Class {
    /// Objects in use.
    pub fn nr_active(&self) -> u64 {
        self.nr_objects.saturating_sub(self.nr_free + self.nr_cached)
    }

    /// Bytes in live objects.
    pub fn used_bytes(&self) -> u64 {
        self.nr_active() * self.size
    }

    /// An estimate of the bytes in live objects that their owners did not ask for, from the sizes
    /// of the requests that found the bin empty.
    pub fn waste_bytes(&self) -> u64 {
        let asked = self.sampled * self.size;
        if asked == 0 {
            return 0;
        }
        let wasted = u128::from(asked.saturating_sub(self.sampled_bytes));
        (u128::from(self.used_bytes()) * wasted / u128::from(asked)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waste_follows_the_sampled_requests() {
        let class = Class {
            size: 64,
            nr_objects: 120,
            nr_free: 15,
            nr_cached: 5,
            sampled: 10,
            sampled_bytes: 10 * 48,
            ..Class::default()
        };
        assert_eq!(class.nr_active(), 100);
        assert_eq!(class.waste_bytes(), 1600);
        assert_eq!(Class { sampled: 0, ..class }.waste_bytes(), 0);
    }
}
