//! The cluster's certificates: one authority, one identity per component. They live as long as the bed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// Signs the cluster's certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// The two halves of the key behind service account tokens, as files.
#[derive(Clone, Debug)]
pub struct TokenKey {
    /// Signs, PEM.
    pub private: PathBuf,
    /// Proves, PEM.
    pub public: PathBuf,
}

impl Authority {
    /// A new authority whose files lie in `folder`.
    ///
    /// # Errors
    /// When a key cannot be made or a file not be written.
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "bed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("make the authority's key")?;
        let issuer = CertifiedIssuer::self_signed(params, key).context("sign the authority's certificate")?;
        let authority = Self { issuer, folder: folder.to_owned() };
        write(&authority.certificate(), &authority.issuer.pem())?;
        Ok(authority)
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A client: `user` in `group`.
    ///
    /// # Errors
    /// When a key cannot be made or a file not be written.
    pub fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, params)
    }

    /// A server, known by `names` and addresses.
    ///
    /// # Errors
    /// When a name cannot be one, a key not be made or a file not be written.
    pub fn server(&self, file: &str, names: &[String]) -> Result<Pair> {
        let mut params = CertificateParams::new(names).with_context(|| format!("name {file} {names:?}"))?;
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, params)
    }

    /// A key that signs service account tokens, and the public half that proves them.
    ///
    /// # Errors
    /// When the key cannot be made or a file not be written.
    pub fn token_key(&self) -> Result<TokenKey> {
        let key = KeyPair::generate().context("make the key for tokens")?;
        let files =
            TokenKey { private: self.folder.join("tokens.key"), public: self.folder.join("tokens.pub") };
        write(&files.private, &key.serialize_pem())?;
        write(&files.public, &key.public_key_pem())?;
        Ok(files)
    }

    /// A kubeconfig for a client.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig(&self, file: &Path, server: &str, pair: &Pair) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bed", "cluster": {"server": server, "certificate-authority": self.certificate()}}],
            "users": [{"name": "bed", "user": {"client-certificate": pair.certificate, "client-key": pair.key}}],
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "bed"}}],
            "current-context": "bed",
        });
        write(file, &serde_json::to_string_pretty(&config)?)
    }

    fn sign(&self, file: &str, mut params: CertificateParams) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().with_context(|| format!("make the key of {file}"))?;
        let signed = params.signed_by(&key, &self.issuer).with_context(|| format!("sign {file}"))?;
        let pair = Pair {
            certificate: self.folder.join(format!("{file}.crt")),
            key: self.folder.join(format!("{file}.key")),
        };
        write(&pair.certificate, &signed.pem())?;
        write(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

/// Writes a file that only its owner reads.
fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("protect {}", file.display()))
}
