//! The `pgrelay` binary.

fn main() -> std::process::ExitCode {
    pgrelay_server::main()
}
