//! What a driver can say of a GPU, in our words: plain values, checked for sense at the door.

use video_upscale::api::report::{ComputeMode, FREE_SLACK, is_gpu_uuid};

/// Largest memory that is believed, bytes: 256 TiB.
const MAX_TOTAL: u64 = 1 << 48;

/// Who a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Index on this node since this boot, for people.
    pub index: u32,
    /// UUID, the key; checked by [`Identity::new`].
    pub uuid: String,
    /// Product name; empty if it cannot be read.
    pub name: String,
    /// PCI bus id; empty if it cannot be read.
    pub pci: String,
    /// Whether the driver keeps it initialised without a program that uses it; `None` if that cannot be read.
    pub persistent: Option<bool>,
    /// Confidential computing is on: the lists tell the memory of processes without its protected part.
    pub confidential: bool,
    /// Its memory is a NUMA node of the machine: the kernel may keep files in what processes gave back.
    pub numa: bool,
    /// It is cut into virtual GPUs, whose processes run in virtual machines.
    pub hosts_vgpus: bool,
}

impl Identity {
    /// `None` if the UUID cannot serve as a key, see [`is_gpu_uuid`].
    pub fn new(index: u32, uuid: String, name: &str, pci: String) -> Option<Self> {
        let name = name.chars().filter(|c| !c.is_control()).take(96).collect();
        is_gpu_uuid(&uuid).then_some(Self {
            index,
            uuid,
            name,
            pci,
            persistent: None,
            confidential: false,
            numa: false,
            hosts_vgpus: false,
        })
    }
}

/// A MIG instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `MIG-...`; a key as [`is_gpu_uuid`] says.
    pub uuid: String,
    /// Its memory; `None` if it cannot be read.
    pub memory: Option<Memory>,
}

/// Memory of a GPU, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Installed.
    pub total: u64,
    /// Kept by the driver; `None` if the driver is too old to tell.
    pub reserved: Option<u64>,
    /// To be had.
    pub free: u64,
    /// Allocated; without `reserved` where that is known, with it otherwise.
    pub used: u64,
}

impl Memory {
    /// `None` for figures that cannot be: no memory at all, more than any GPU has, or parts larger than the whole.
    pub fn new(total: u64, reserved: Option<u64>, free: u64, used: u64) -> Option<Self> {
        let to_be_had = total.saturating_sub(reserved.unwrap_or(0)).saturating_add(FREE_SLACK);
        let parts = [free, used, reserved.unwrap_or(0)];
        let sound = (1..=MAX_TOTAL).contains(&total) && parts.iter().all(|part| *part <= total);
        let sound = sound && free <= to_be_had;
        sound.then_some(Self { total, reserved, free, used })
    }
}

/// A process as the driver lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Process id, in the namespace of the agent.
    pub pid: u32,
    /// Memory on this GPU, bytes; `None` if the driver does not tell.
    pub bytes: Option<u64>,
    /// It computes.
    pub compute: bool,
    /// It draws.
    pub graphics: bool,
    /// It is a client of the MPS server.
    pub mps: bool,
}

impl Listed {
    /// Without memory that cannot be: no process holds more of a GPU than the GPU has.
    pub fn plausible_on(mut self, memory: &Memory) -> Self {
        self.bytes = self.bytes.filter(|bytes| *bytes <= memory.total);
        self
    }
}

/// One entry per process: the larger memory, the types joined. Drivers list a process once per context type, and
/// some list it twice.
pub fn join(mut listed: Vec<Listed>) -> Vec<Listed> {
    listed.sort_by_key(|process| process.pid);
    listed.dedup_by(|next, kept| {
        if next.pid != kept.pid {
            return false;
        }
        kept.bytes = kept.bytes.max(next.bytes);
        kept.compute |= next.compute;
        kept.graphics |= next.graphics;
        kept.mps |= next.mps;
        true
    });
    listed
}

/// What changes rarely: signs of ill health, and modes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Uncorrected memory errors since the driver was loaded.
    pub ecc_uncorrected: Option<u64>,
    /// Rows wait for a reset to be remapped, or pages to be retired; `None` if it was not told.
    pub reset_pending: Option<bool>,
    /// Rows could not be remapped.
    pub remap_failed: bool,
    /// MIG mode is on; `None` if it was not told.
    pub mig: Option<bool>,
    /// Compute mode, if not the default.
    pub compute_mode: Option<ComputeMode>,
}

impl Signs {
    /// These, and what they leave open as it was before.
    pub fn or(mut self, before: &Self) -> Self {
        self.reset_pending = self.reset_pending.or(before.reset_pending);
        self.mig = self.mig.or(before.mig);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn figures_that_cannot_be_are_no_figures() {
        assert_eq!(Memory::new(0, None, 0, 0), None);
        assert_eq!(Memory::new(GIB, None, 2 * GIB, 0), None);
        assert_eq!(Memory::new(GIB, Some(GIB / 2), GIB, 0), None, "more than the driver leaves");
        assert_eq!(Memory::new(GIB, Some(u64::MAX), 10, 0), None);
        assert_eq!(Memory::new(u64::MAX, None, u64::MAX, 0), None);
        assert!(Memory::new(GIB, Some(5), GIB - 5, 0).is_some());
    }

    #[test]
    fn a_process_listed_twice_is_one_with_the_larger_memory() {
        let listed = vec![
            Listed { pid: 9, bytes: Some(5), compute: true, ..Listed::default() },
            Listed { pid: 7, bytes: None, compute: true, ..Listed::default() },
            Listed { pid: 9, bytes: Some(8), graphics: true, ..Listed::default() },
        ];
        let joined = join(listed);
        assert_eq!(joined.len(), 2);
        assert_eq!(joined[1], Listed { pid: 9, bytes: Some(8), compute: true, graphics: true, mps: false });
    }

    #[test]
    fn a_uuid_that_cannot_be_a_key_is_refused() {
        for uuid in ["", "GPU 1", "GPU_1", &"x".repeat(49)] {
            assert_eq!(Identity::new(0, uuid.to_owned(), "", String::new()), None, "{uuid}");
        }
    }
}
