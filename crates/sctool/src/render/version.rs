//! `version` (spec/sctool.md 4.13).

pub fn client(version: &str) -> String {
    format!("Client version: {version}\n")
}

pub fn server(version: &str) -> String {
    format!("Server version: {version}\n")
}
