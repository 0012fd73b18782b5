//! The program with the fail point that `PGRELAY_FAIL_POINT` names.

fn main() -> std::process::ExitCode {
    pgrelay_server::main()
}
