//! The stand-in driver library through its C interface, as nvml-wrapper calls it.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use gpusim::card::{Gpu, MIB};
use gpusim::control::{Command as Act, DriverAction, PinMode, ViewMode};
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::child::{folder, library, load, look_again, try_load, with};
use crate::{Bed, eventually};

fn uuids(nvml: &Nvml) -> Vec<String> {
    let count = nvml.device_count().unwrap();
    (0..count).map(|index| nvml.device_by_index(index).unwrap().uuid().unwrap()).collect()
}

fn processes(device: &Device) -> Vec<(u32, u64)> {
    let bytes = |memory: UsedGpuMemory| match memory {
        UsedGpuMemory::Used(bytes) => bytes,
        UsedGpuMemory::Unavailable => 0,
    };
    device
        .running_compute_processes()
        .unwrap()
        .into_iter()
        .map(|p| (p.pid, bytes(p.used_gpu_memory)))
        .collect()
}

#[test]
fn every_gpu_says_who_it_is_and_how_it_is() {
    with("nvml::every_gpu_says_who_it_is_and_how_it_is", Some("all"), |_| {
        let nvml = load();
        assert_eq!(nvml.sys_driver_version().unwrap(), "580.95.05");
        assert_eq!(nvml.device_count().unwrap(), 2);
        let device = nvml.device_by_index(1).unwrap();
        assert_eq!(device.name().unwrap(), "NVIDIA T400");
        assert_eq!((device.index().unwrap(), device.minor_number().unwrap()), (1, 1));
        let pci = device.pci_info().unwrap();
        assert_eq!((pci.bus_id.as_str(), pci.bus), ("00000000:02:00.0", 2));
        let uuid = device.uuid().unwrap();
        assert_eq!(uuid, gpusim::card::uuid(7, "node-a", 1));
        assert_eq!(nvml.device_by_uuid(uuid).unwrap().index().unwrap(), 1);
        assert!(!device.mig_mode().map(|mode| mode.current != 0).unwrap());
        assert!(!device.is_ecc_enabled().unwrap().currently_enabled);
        assert_eq!(format!("{:?}", device.compute_mode().unwrap()), "Default");
        let rows = [142, 143, 144, 145, 1].map(nvml_wrapper::structs::device::FieldId);
        let values = device.field_values_for(&rows).unwrap();
        assert!(values[..4].iter().all(|value| value.as_ref().unwrap().value.is_ok()));
        assert!(matches!(values[4].as_ref().unwrap().value, Err(NvmlError::NotSupported)));
        assert!(matches!(nvml.device_by_index(2), Err(NvmlError::InvalidArg)));
        assert!(matches!(nvml.device_by_uuid("GPU-0"), Err(NvmlError::NotFound)));
        assert!(nvml.sys_process_name(std::process::id(), 255).unwrap().contains("bed"));
    });
}

#[test]
fn memory_and_process_lists_follow_a_foreign_process_from_its_first_byte_to_its_end() {
    let name = "nvml::memory_and_process_lists_follow_a_foreign_process_from_its_first_byte_to_its_end";
    with(name, Some("all"), |folder| {
        let nvml = load();
        let device = nvml.device_by_index(0).unwrap();
        let before = device.memory_info().unwrap();
        assert_eq!((before.total, before.reserved, before.used), (16376 * MIB, 300 * MIB, 0));
        assert!(processes(&device).is_empty());
        let mut hog = crate::hog(folder, 0, 5000);
        let held = device.memory_info().unwrap();
        assert_eq!((held.used, held.free), (5000 * MIB, (16376 - 300 - 5000) * MIB));
        assert_eq!(processes(&device), [(hog.0.id(), 5000 * MIB)]);
        assert!(device.running_graphics_processes().unwrap().is_empty());
        assert!(device.mps_running_compute_processes().unwrap().is_empty());
        hog.0.kill().unwrap();
        let waited = eventually("the memory is free", || device.memory_info().unwrap().used == 0);
        println!("freed {waited:?} after the kill");
        assert!(waited < Duration::from_millis(250), "{waited:?}");
        assert!(processes(&device).is_empty());
    });
}

#[test]
fn raw_calls_keep_the_contract_of_versions_and_sizes() {
    with("nvml::raw_calls_keep_the_contract_of_versions_and_sizes", Some("all"), |folder| {
        let nvml = load();
        let _hogs = [crate::hog(folder, 0, 10), crate::hog(folder, 0, 20)];
        let device = nvml.device_by_index(0).unwrap();
        // SAFETY: every pointer is to a local of the type that the binding names.
        #[expect(unsafe_code, reason = "calls that the wrapper does not make")]
        unsafe {
            let (lib, handle) = (nvml.lib(), device.handle());
            let mut v1 = std::mem::zeroed();
            assert_eq!(lib.nvmlDeviceGetMemoryInfo(handle, &mut v1), 0);
            assert_eq!((v1.used, v1.free), (330 * MIB, (16376 - 330) * MIB));
            let mut v2 = std::mem::zeroed();
            assert_eq!(lib.nvmlDeviceGetMemoryInfo_v2(handle, &mut v2), 25);
            let mut count = 0;
            let null = std::ptr::null_mut();
            assert_eq!(lib.nvmlDeviceGetComputeRunningProcesses_v3(handle, &mut count, null), 7);
            assert_eq!(count, 2);
            let mut list = [std::mem::zeroed(); 1];
            count = 1;
            assert_eq!(lib.nvmlDeviceGetComputeRunningProcesses_v2(handle, &mut count, list.as_mut_ptr()), 7);
            assert_eq!((count, list[0].pid), (2, 0));
            count = 0;
            assert_eq!(lib.nvmlDeviceGetGraphicsRunningProcesses_v3(handle, &mut count, null), 0);
            let mut short = [0; 4];
            assert_eq!(lib.nvmlDeviceGetUUID(handle, short.as_mut_ptr(), 4), 7);
            assert_eq!(lib.nvmlDeviceGetUUID(handle, null.cast(), 96), 2);
        }
    });
}

#[test]
fn a_process_sees_only_what_its_environment_names() {
    let name = "nvml::a_process_sees_only_what_its_environment_names";
    let (first, second) = (gpusim::card::uuid(7, "node-a", 0), gpusim::card::uuid(7, "node-a", 1));
    let cdi = format!("nvidia.com/gpu={second}");
    let table = [
        (None, vec![]),
        (Some("void"), vec![]),
        (Some("none"), vec![]),
        (Some(""), vec![]),
        (Some("1"), vec![&second]),
        (Some(first.as_str()), vec![&first]),
        (Some(cdi.as_str()), vec![&second]),
        (Some("all"), vec![&first, &second]),
    ];
    if folder().is_some() {
        let visible = std::env::var("NVIDIA_VISIBLE_DEVICES").ok();
        let (_, want) = table.iter().find(|(spec, _)| *spec == visible.as_deref()).unwrap();
        let nvml = load();
        assert_eq!(uuids(&nvml).iter().collect::<Vec<_>>(), *want);
        return;
    }
    for (visible, _) in table {
        with(name, visible, |_| {});
    }
}

#[test]
fn a_broken_pin_shows_all_another_or_no_gpu() {
    with("nvml::a_broken_pin_shows_all_another_or_no_gpu", Some("0"), |folder| {
        let nvml = load();
        let uuid = |index| gpusim::card::uuid(7, "node-a", index);
        for (mode, want) in [
            (PinMode::Honour, vec![uuid(0)]),
            (PinMode::Ignore, vec![uuid(0), uuid(1)]),
            (PinMode::Swap, vec![uuid(1)]),
            (PinMode::None, vec![]),
        ] {
            crate::control(folder, &Act::Pin { mode });
            assert_eq!(uuids(&nvml), want, "{mode:?}");
        }
    });
}

#[test]
fn a_lost_gpu_fails_alone_and_raises_an_event() {
    with("nvml::a_lost_gpu_fails_alone_and_raises_an_event", Some("all"), |folder| {
        let nvml = load();
        let device = nvml.device_by_index(0).unwrap();
        let events = nvml.create_event_set().unwrap();
        assert_eq!(device.supported_event_types().unwrap(), EventTypes::CRITICAL_XID_ERROR);
        let events = device.register_events(EventTypes::CRITICAL_XID_ERROR, events).unwrap();
        let began = Instant::now();
        assert!(matches!(events.wait(200), Err(NvmlError::Timeout)));
        assert!(began.elapsed() >= Duration::from_millis(190));
        crate::control(folder, &Act::Xid { gpu: Gpu::Index(1), code: 13 });
        assert!(matches!(events.wait(50), Err(NvmlError::Timeout)), "of a GPU that is not registered");
        crate::control(folder, &Act::Lose { gpu: Gpu::Index(0), back: false });
        assert_eq!(format!("{:?}", events.wait(1000).unwrap().event_data), "Some(Value(79))");
        assert!(matches!(device.memory_info(), Err(NvmlError::GpuLost)));
        assert!(matches!(nvml.device_by_index(0), Err(NvmlError::GpuLost)));
        assert_eq!(nvml.device_count().unwrap(), 2);
        assert!(nvml.device_by_index(1).unwrap().memory_info().is_ok());
        crate::control(folder, &Act::Lose { gpu: Gpu::Index(0), back: true });
        assert!(device.memory_info().is_ok());
    });
}

#[test]
fn a_driver_that_is_gone_is_not_loaded_and_heals_when_it_is_back() {
    with("nvml::a_driver_that_is_gone_is_not_loaded_and_heals_when_it_is_back", Some("all"), |folder| {
        let nvml = load();
        let device = nvml.device_by_index(0).unwrap();
        crate::control(folder, &Act::Driver { action: DriverAction::Unload, version: None });
        assert!(matches!(device.memory_info(), Err(NvmlError::DriverNotLoaded)));
        assert!(matches!(try_load().map(drop), Err(NvmlError::DriverNotLoaded)));
        crate::control(folder, &Act::Driver { action: DriverAction::Load, version: None });
        assert!(device.memory_info().is_ok());
        let newer = Some("590.10.01".to_owned());
        crate::control(folder, &Act::Driver { action: DriverAction::Reload, version: newer });
        assert!(matches!(device.memory_info(), Err(NvmlError::LibRmVersionMismatch)));
    });
}

#[test]
fn a_daemon_that_is_killed_takes_all_holdings_and_comes_back_empty() {
    let name = "nvml::a_daemon_that_is_killed_takes_all_holdings_and_comes_back_empty";
    with(name, Some("all"), |folder| {
        // A second daemon takes over the socket of the folder, as after a crash.
        let nvml = load();
        let _hog = crate::hog(folder, 0, 100);
        let device = nvml.device_by_index(0).unwrap();
        std::fs::remove_file(folder.join("gpusim.sock")).unwrap();
        crate::control(folder, &Act::Driver { action: DriverAction::Reload, version: None });
        std::fs::remove_file(folder.join("control")).unwrap();
        assert!(matches!(device.memory_info(), Err(NvmlError::DriverNotLoaded)));
        let second = crate::Hog(crate::daemon(folder));
        assert_eq!(device.memory_info().unwrap().used, 0);
        drop(second);
        assert!(matches!(device.memory_info(), Err(NvmlError::DriverNotLoaded)));
    });
}

#[test]
fn a_caller_in_a_pid_namespace_sees_no_stranger_unless_the_driver_is_old() {
    let name = "nvml::a_caller_in_a_pid_namespace_sees_no_stranger_unless_the_driver_is_old";
    if let Some(hog) = std::env::var_os("GPUSIM_TEST_NAMESPACE") {
        let folder = folder().unwrap();
        let nvml = load();
        let device = nvml.device_by_index(0).unwrap();
        assert!(processes(&device).is_empty());
        assert_eq!(device.memory_info().unwrap().used, 50 * MIB);
        let own = crate::hog(&folder, 0, 60);
        assert_eq!(processes(&device), [(own.0.id(), 60 * MIB)]);
        crate::control(&folder, &Act::View { mode: ViewMode::Raw });
        let pids: Vec<u32> = processes(&device).iter().map(|(pid, _)| *pid).collect();
        assert_eq!(pids.len(), 2);
        assert!(pids.contains(&hog.to_str().unwrap().parse().unwrap()));
        return;
    }
    let may = Command::new("unshare").args(["--pid", "--fork", "true"]).status().is_ok_and(|s| s.success());
    if !may {
        // Not by `println!`, which a test keeps to itself unless it fails.
        writeln!(std::io::stdout(), "SKIPPED: {name}: no right to make a pid namespace").unwrap();
        return;
    }
    library();
    let bed = Bed::start();
    let hog = bed.hog(0, 50);
    let mut child = Command::new("unshare");
    child
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .env("GPUSIM_TEST_NAMESPACE", hog.0.id().to_string())
        .env("NVIDIA_VISIBLE_DEVICES", "all");
    look_again(&mut child, name, bed.path());
}
