//! Certificates for one test: an authority, a server and a client of it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

/// PEM files of a small authority, in a folder.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// The user that [`Self::client`] identifies; a test that needs it creates the role.
    pub const CLIENT: &str = "certified";

    /// Makes an authority, a certificate for a server called `localhost`, and one for the client.
    pub(crate) fn make(folder: &Path) -> Self {
        std::fs::create_dir(folder).unwrap();
        let made = Self {
            folder: folder.into(),
        };
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = parameters("an authority for tests", &[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = authority.self_signed(&authority_key).unwrap();
        made.write("ca.pem", &certificate.pem());
        let issuer = Issuer::new(authority, authority_key);
        for (name, parameters) in [
            ("server", parameters("localhost", &["localhost"])),
            ("client", parameters(Self::CLIENT, &[])),
        ] {
            let key = KeyPair::generate().unwrap();
            let certificate = parameters.signed_by(&key, &issuer).unwrap();
            made.write(&format!("{name}.pem"), &certificate.pem());
            made.write(&format!("{name}.key"), &key.serialize_pem());
        }
        made
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The server's certificate, for the name `localhost` and no address, and its key.
    pub fn server(&self) -> (PathBuf, PathBuf) {
        self.pair("server")
    }

    /// The client's certificate and key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        self.pair("client")
    }

    fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        let file = |end| self.folder.join(format!("{name}.{end}"));
        (file("pem"), file("key"))
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }
}

fn parameters(common_name: &str, host_names: &[&str]) -> CertificateParams {
    let names: Vec<String> = host_names.iter().map(|&name| name.into()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    parameters
}
