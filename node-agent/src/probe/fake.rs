//! A driver that answers as a test says.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::collections::BTreeMap;

use super::{Driver, Fault, Probe};
use crate::gpu::{Identity, Instance, Listed, Memory, Signs};

/// A scripted driver; tests change its fields between rounds.
#[derive(Clone, Debug, Default)]
pub struct FakeProbe {
    pub open: Option<Fault>,
    pub version: String,
    /// Why the GPUs cannot even be counted.
    pub count: Option<Fault>,
    pub gpus: Vec<Result<Identity, Fault>>,
    pub memory: BTreeMap<u32, Result<Memory, Fault>>,
    pub listed: BTreeMap<u32, Result<Vec<Listed>, Fault>>,
    pub signs: BTreeMap<u32, Signs>,
    pub instances: BTreeMap<u32, Vec<Instance>>,
    pub opened: u32,
    pub sweeps: u32,
}

impl FakeProbe {
    /// `count` GPUs of 48 GiB with 1 GiB in use.
    pub fn with_gpus(count: u32) -> Self {
        let mut fake = Self { version: "580.95.05".to_owned(), ..Self::default() };
        for index in 0..count {
            fake.gpus.push(Ok(Self::identity(index)));
            fake.uses(index, 1 << 30);
        }
        fake
    }

    pub fn identity(index: u32) -> Identity {
        let uuid = format!("GPU-{index:08x}-0000-4000-8000-000000000000");
        Identity::new(index, uuid, "NVIDIA L40S", format!("0000:{index:02x}:00.0")).unwrap()
    }

    pub fn uses(&mut self, index: u32, used: u64) {
        let (total, reserved) = (48 << 30, 600 << 20);
        self.memory
            .insert(index, Ok(Memory::new(total, Some(reserved), total - reserved - used, used).unwrap()));
    }

    pub fn all_fail(&mut self, fault: &Fault) {
        self.memory.values_mut().for_each(|memory| *memory = Err(fault.clone()));
    }
}

impl Probe for FakeProbe {
    fn open(&mut self) -> Result<Driver, Fault> {
        self.opened += 1;
        match &self.open {
            Some(fault) => Err(fault.clone()),
            None => Ok(Driver { version: self.version.clone(), ..Driver::default() }),
        }
    }

    fn gpus(&mut self) -> Result<Vec<Result<Identity, Fault>>, Fault> {
        self.count.clone().map_or_else(|| Ok(self.gpus.clone()), Err)
    }

    fn memory(&mut self, index: u32) -> Result<Memory, Fault> {
        self.memory[&index].clone()
    }

    fn processes(&mut self, index: u32, _mps: bool) -> Result<Vec<Listed>, Fault> {
        self.sweeps += 1;
        self.listed.get(&index).cloned().unwrap_or(Ok(Vec::new()))
    }

    fn signs(&mut self, index: u32) -> Signs {
        self.signs.get(&index).cloned().unwrap_or_default()
    }

    fn instances(&mut self, index: u32) -> Result<Vec<Instance>, Fault> {
        self.instances.get(&index).cloned().ok_or(Fault::NotSupported)
    }
}
