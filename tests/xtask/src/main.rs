//! `cargo xtask`: the bed and what is done with it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::bed::{self, Bed, TENANT_NAMESPACE, UpOptions};
use xtask::gpu::Act;
use xtask::transfer::{self, Place};
use xtask::{demo, test};

/// A real Kubernetes cluster of two nodes with simulated GPUs, on this machine.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring the bed up: build what is missing, start the cluster, install the chart; on one that is up, end what tests
    /// and `gpu` have done to it
    Up {
        /// Leave the chart out
        #[arg(long)]
        no_chart: bool,
    },
    /// Take the bed down; nothing of it stays but the cache of tools and images
    Down,
    /// Print the shell's variables for kubectl and helm: eval "$(cargo xtask env)"
    Env,
    /// Copy a file into a volume of the bed
    Put {
        /// The file
        local: PathBuf,
        /// Where to, for example media:in/film.mp4
        #[arg(value_name = "CLAIM:PATH")]
        place: Place,
        /// Namespace of the claim
        #[arg(short, long, default_value = TENANT_NAMESPACE)]
        namespace: String,
    },
    /// Copy a file out of a volume of the bed
    Get {
        /// What, for example media:out/film.mp4
        #[arg(value_name = "CLAIM:PATH")]
        place: Place,
        /// Where to: a file or a folder
        local: PathBuf,
        /// Namespace of the claim
        #[arg(short, long, default_value = TENANT_NAMESPACE)]
        namespace: String,
    },
    /// Upscale a film on the bed, past a foreign process and past an out-of-memory end
    Demo(demo::Options),
    /// Run everything a change has to pass
    Test(test::Options),
    /// Let something happen to the simulated GPUs
    #[command(subcommand)]
    Gpu(Act),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Up { no_chart } => up(&UpOptions { chart: !no_chart }),
        Task::Down => bed::down(),
        Task::Env => env(),
        Task::Put { local, place, namespace } => {
            let to = transfer::put(&Bed::attach()?, &local, &namespace, &place)?;
            println!("{} -> {}", local.display(), to.display());
            Ok(())
        }
        Task::Get { place, local, namespace } => {
            let to = transfer::get(&Bed::attach()?, &namespace, &place, &local)?;
            println!("{}", to.display());
            Ok(())
        }
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Gpu(act) => act.run(),
    }
}

fn up(options: &UpOptions) -> Result<()> {
    let bed = Bed::up(options)?;
    bed.progress().say("the bed is up");
    println!(
        "\nNext:\n  \
         eval \"$(cargo xtask env)\"                    kubectl and helm of this bed\n  \
         kubectl get nodes                            two nodes with ten simulated GPUs\n  \
         cargo xtask gpu list                         what is on them\n  \
         cargo xtask put film.mp4 media:in/film.mp4   a film onto the claim `media` of namespace `media`\n  \
         cargo xtask down                             every trace gone"
    );
    Ok(())
}

fn env() -> Result<()> {
    for (name, value) in Bed::attach()?.tool_environment()? {
        println!("export {name}={}", quoted(&value.to_string_lossy()));
    }
    Ok(())
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_quoted_word_survives_the_shell() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
