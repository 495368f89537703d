//! The driver itself: who owns memory when processes fork, end slowly or leak.

use std::thread::sleep;
use std::time::Duration;

use gpusim::card::{Gpu, MIB};
use gpusim::control::{Command as Act, Control, ControlError};
use gpusim::driver::{Driver, DriverError, SOCKET};
use gpusim::journal::{self, Event};

use crate::{Bed, eventually};

#[test]
fn a_refusal_names_all_holders_and_changes_nothing() {
    let bed = Bed::start();
    let hog = bed.hog(0, 16000);
    let mut driver = Driver::dial(&bed.path().join(SOCKET), "0", None).unwrap();
    let uuid = driver.devices().unwrap()[0].uuid.clone();
    driver.alloc(&uuid, 50 * MIB).unwrap();
    let Err(DriverError::OutOfMemory(out)) = driver.alloc(&uuid, 27 * MIB) else { panic!("granted") };
    assert_eq!((out.memory.free, out.holders.len()), (26 * MIB, 2));
    assert!(out.holders.iter().any(|holder| holder.pid == hog.0.id()));
    driver.alloc(&uuid, 26 * MIB).unwrap();
    assert_eq!(bed.list()[0].free, 0);
    drop(driver);
    eventually("the connection's memory is free", || bed.list()[0].free == 76 * MIB);
    assert!(bed.journal().iter().any(|entry| matches!(entry.event, Event::Refused { .. })));
}

#[test]
fn memory_of_a_dead_process_leaks_or_comes_back_slowly_where_told() {
    let bed = Bed::start();
    let gpu = Gpu::Index(0);
    bed.control(&Act::SlowRelease { gpu: gpu.clone(), millis: 600 });
    drop(bed.hog(0, 1000));
    eventually("the process is gone", || bed.list()[0].holders.is_empty());
    assert!(bed.list()[0].unowned > 300 * MIB);
    eventually("all of it is back", || bed.list()[0].unowned == 0);
    bed.control(&Act::LeakOnExit { gpu: gpu.clone(), off: false });
    drop(bed.hog(0, 1000));
    eventually("the process is gone", || bed.list()[0].holders.is_empty());
    sleep(Duration::from_millis(700));
    assert_eq!(bed.list()[0].unowned, 1000 * MIB);
    bed.control(&Act::Leak { gpu, mib: 0 });
    assert_eq!(bed.list()[0].unowned, 0);
}

#[test]
fn a_command_for_a_gpu_that_is_not_there_is_refused_in_words() {
    let bed = Bed::start();
    let mut control = Control::dial(&bed.path().join("control")).unwrap();
    let refused = control.run(&Act::Leak { gpu: Gpu::Index(9), mib: 1 });
    let Err(ControlError::Refused(why)) = refused else { panic!("{refused:?}") };
    assert_eq!(why, "node node-a has 2 GPUs and none is 9");
}

#[test]
fn two_holders_of_one_gpu_at_once_show_in_the_journal() {
    let bed = Bed::start();
    let first = bed.hog(0, 10);
    drop(bed.hog(1, 10));
    drop(bed.hog(0, 10));
    drop(first);
    eventually("all is free", || bed.list().iter().all(|gpu| gpu.holders.is_empty()));
    let holds = journal::holds(&bed.journal());
    assert_eq!(holds.len(), 3);
    assert!(holds.iter().all(|hold| hold.end.is_some() && hold.peak == 10 * MIB));
    assert_eq!(journal::overlaps(&holds, |_| true).len(), 1);
}
