//! `upscale-agent`.

fn main() {
    upscale_agent::program::main()
}
