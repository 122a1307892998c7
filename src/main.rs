//! edgemd, the program: all of it is in the library.

fn main() -> std::process::ExitCode {
    edgemd::cli::run()
}
