//! Scripts: the library plays old, broken and strange drivers, and plays nothing where no script says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use gpusim::card::MIB;
use gpusim::driver::Memory;
use gpusim::library::without;
use gpusim::script::{Act, Entry, FILE, Growth, Instance, Rule, Script, Twist, calls};
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;

use crate::child::{library, load, try_load, with};

const MEMORY_V2: &str = "nvmlDeviceGetMemoryInfo_v2";

fn rules(folder: &Path, rules: Vec<Rule>) {
    Script { rules, ..Script::default() }.play(folder).unwrap();
}

fn twist(folder: &Path, gpu: u32, twist: Twist) {
    Script { gpus: BTreeMap::from([(gpu, twist)]), ..Script::default() }.play(folder).unwrap();
}

#[test]
fn a_symbol_that_is_left_out_is_not_there_and_all_others_are() {
    with("script::a_symbol_that_is_left_out_is_not_there_and_all_others_are", Some("all"), |folder| {
        let old = folder.join("libnvidia-ml.so.470");
        let copy = without(&fs::read(library()).unwrap(), &[MEMORY_V2, "nvmlDeviceGetName"]).unwrap();
        fs::write(&old, copy).unwrap();
        let nvml = Nvml::builder().lib_path(old.as_os_str()).init().unwrap();
        let lib = nvml.lib();
        assert!(lib.nvmlDeviceGetMemoryInfo_v2.is_err() && lib.nvmlDeviceGetName.is_err());
        assert!(lib.nvmlDeviceGetMemoryInfo.is_ok() && lib.nvmlDeviceGetUUID.is_ok());
        let device = nvml.device_by_index(0).unwrap();
        assert!(matches!(device.memory_info(), Err(NvmlError::FailedToLoadSymbol(_))));
        assert_eq!(device.uuid().unwrap(), gpusim::card::uuid(7, "node-a", 0));
        assert!(load().device_by_index(0).unwrap().memory_info().is_ok(), "the whole library beside it");
    });
}

#[test]
fn a_rule_fails_the_calls_that_it_names_and_counts_anew_when_the_script_changes() {
    let name = "script::a_rule_fails_the_calls_that_it_names_and_counts_anew_when_the_script_changes";
    with(name, Some("all"), |folder| {
        rules(folder, vec![Rule { times: Some(3), ..Rule::code("nvmlInit_v2", 9) }]);
        let failed = (0..5).take_while(|_| matches!(try_load(), Err(NvmlError::DriverNotLoaded))).count();
        assert_eq!(failed, 3, "also where the library is loaded anew each time");
        let nvml = load();
        let [first, second] = [0, 1].map(|index| nvml.device_by_index(index).unwrap());
        let lost = Rule { gpu: Some(1), after: 2, ..Rule::code(MEMORY_V2, 15) };
        rules(folder, vec![lost.clone()]);
        assert!((0..2).all(|_| second.memory_info().is_ok()));
        assert!(matches!(second.memory_info(), Err(NvmlError::GpuLost)));
        assert!((0..5).all(|_| first.memory_info().is_ok()));
        assert!(second.uuid().is_ok());
        rules(folder, vec![Rule { after: 1, ..lost }]);
        assert!(second.memory_info().is_ok());
        assert!(matches!(second.memory_info(), Err(NvmlError::GpuLost)));
        rules(folder, vec![Rule::code("*", 999)]);
        assert!(matches!(first.uuid(), Err(NvmlError::Unknown)));
        assert!(matches!(nvml.device_count(), Err(NvmlError::Unknown)));
        fs::remove_file(folder.join(FILE)).unwrap();
        assert!(second.memory_info().is_ok());
        fs::write(folder.join(FILE), "{").unwrap();
        assert!(matches!(first.uuid(), Err(NvmlError::Unknown)), "a spoilt script is no script to pass over");
    });
}

#[test]
fn a_call_that_hangs_holds_up_no_other_and_answers_late() {
    with("script::a_call_that_hangs_holds_up_no_other_and_answers_late", Some("all"), |folder| {
        let nvml = load();
        let device = nvml.device_by_index(0).unwrap();
        rules(folder, vec![Rule { act: Act::Hang(800), times: Some(1), ..Rule::code(MEMORY_V2, 0) }]);
        std::thread::scope(|scope| {
            let began = Instant::now();
            let hung = scope.spawn(|| device.memory_info().map(|_| Instant::now()));
            let quick = (0..).map_while(|_| nvml.device_count().ok()).take(20).count();
            assert_eq!((quick, hung.is_finished()), (20, false));
            assert!(hung.join().unwrap().unwrap() - began >= Duration::from_millis(800));
        });
    });
}

#[test]
fn lists_grow_while_they_are_read_and_hold_what_no_driver_tells() {
    with("script::lists_grow_while_they_are_read_and_hold_what_no_driver_tells", Some("all"), |folder| {
        let nvml = load();
        let device = nvml.device_by_index(0).unwrap();
        twist(folder, 0, Twist { growth: Growth { by: 10, times: 2 }, ..Twist::default() });
        assert!(matches!(device.running_compute_processes(), Err(NvmlError::InsufficientSize(_))));
        assert_eq!(device.running_compute_processes().unwrap().len(), 20);
        let (told, untold) = (Entry { pid: 7, bytes: Some(MIB) }, Entry { pid: 8, bytes: None });
        let lists =
            Twist { compute: vec![told], graphics: vec![untold], mps: vec![told], ..Twist::default() };
        twist(folder, 0, lists);
        let graphics = &device.running_graphics_processes().unwrap()[0];
        assert_eq!((graphics.pid, &graphics.used_gpu_memory), (8, &UsedGpuMemory::Unavailable));
        assert_eq!(device.running_compute_processes_v2().unwrap()[0].pid, 7);
        assert_eq!(device.mps_running_compute_processes().unwrap().len(), 1);
    });
}

#[test]
fn wide_entries_are_as_wide_as_those_of_the_drivers_that_had_them() {
    with("script::wide_entries_are_as_wide_as_those_of_the_drivers_that_had_them", Some("all"), |folder| {
        let nvml = load();
        let device = nvml.device_by_index(0).unwrap();
        let compute = (1..=2).map(|pid| Entry { pid, bytes: Some(u64::from(pid) * MIB) }).collect();
        let gpus = BTreeMap::from([(0, Twist { compute, ..Twist::default() })]);
        Script { wide_entries: true, gpus, ..Script::default() }.play(folder).unwrap();
        // SAFETY: the room is for four entries of 32 bytes, and the count says two.
        #[expect(unsafe_code, reason = "the wrapper knows no entries of 32 bytes")]
        unsafe {
            let mut room = [[0_u64; 4]; 4];
            let mut count = 2;
            let answer = nvml.lib().nvmlDeviceGetComputeRunningProcesses_v3(
                device.handle(),
                &mut count,
                room.as_mut_ptr().cast(),
            );
            assert_eq!((answer, count), (0, 2));
            assert_eq!([room[0][0], room[0][1], room[1][0], room[1][1]], [1, MIB, 2, 2 * MIB]);
        }
        assert_eq!(device.running_compute_processes_v2().unwrap()[1].pid, 2, "_v2 never changed");
    });
}

#[test]
fn a_gpu_says_what_the_script_says_of_it() {
    with("script::a_gpu_says_what_the_script_says_of_it", Some("all"), |folder| {
        let nvml = load();
        let device = nvml.device_by_index(1).unwrap();
        let memory = Memory { total: 8, reserved: 1, used: 2, free: 9 };
        let mig = BTreeMap::from([(2, Instance { uuid: "MIG-1".to_owned(), memory })]);
        twist(
            folder,
            1,
            Twist {
                uuid: Some(gpusim::card::uuid(7, "node-a", 0)),
                name: Some("NVIDIA \u{ff}".to_owned()),
                memory: Some(memory),
                ecc_uncorrected: Some(3),
                remapped_pending: 1,
                mig: Some(mig),
                compute_mode: 3,
                ..Twist::default()
            },
        );
        assert_eq!(device.uuid().unwrap(), nvml.device_by_index(0).unwrap().uuid().unwrap());
        assert!(matches!(device.name(), Err(NvmlError::Utf8Error(_))));
        let told = device.memory_info().unwrap();
        assert_eq!((told.total, told.reserved, told.used, told.free), (8, 1, 2, 9));
        assert_eq!(device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).unwrap(), 3);
        let rows = device.field_values_for(&[144, 145].map(FieldId)).unwrap();
        let rows: Vec<SampleValue> = rows.into_iter().map(|row| row.unwrap().value.unwrap()).collect();
        assert!(matches!(rows[..], [SampleValue::U32(1), SampleValue::U32(0)]), "{rows:?}");
        assert!(matches!(device.are_pages_pending_retired(), Err(NvmlError::NotSupported)));
        assert_eq!(format!("{:?}", device.compute_mode().unwrap()), "ExclusiveProcess");
        assert_eq!((device.mig_mode().unwrap().current, device.mig_device_count().unwrap()), (1, 7));
        assert!(matches!(device.mig_device_by_index(0), Err(NvmlError::NotFound)));
        let instance = device.mig_device_by_index(2).unwrap();
        assert_eq!((instance.uuid().unwrap().as_str(), instance.memory_info().unwrap().total), ("MIG-1", 8));

        twist(folder, 1, Twist { retired_pending: Some(true), ..Twist::default() });
        assert!(matches!(instance.memory_info(), Err(NvmlError::NotFound)), "its handle died with it");
        assert!(device.are_pages_pending_retired().unwrap());
        let rows = device.field_values_for(&[FieldId(144)]).unwrap();
        assert!(matches!(rows[0].as_ref().unwrap().value, Err(NvmlError::NotSupported)));
    });
}

#[test]
fn gpus_are_counted_backwards_and_calls_are_logged_where_asked() {
    with("script::gpus_are_counted_backwards_and_calls_are_logged_where_asked", Some("all"), |folder| {
        Script { reversed: true, log: true, ..Script::default() }.play(folder).unwrap();
        let nvml = load();
        assert_eq!(nvml.device_by_index(0).unwrap().name().unwrap(), "NVIDIA T400");
        let logged = calls(folder);
        let last = logged.iter().rev().take(2).map(String::as_str);
        assert!(last.eq(["nvmlDeviceGetName", "nvmlDeviceGetHandleByIndex_v2"]), "{logged:?}");
    });
}
