//! Credentials of clusters, and the drawer of small state. Secrets leave this module only as typed values whose
//! `Debug` shows nothing.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::ids::ClusterId;
use rusqlite::{OptionalExtension, Transaction};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, get_id};
use common::secret::Secret;

/// Kinds of secret; the texts are the keys of the original's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretKind {
    /// CQL user and password.
    Cql,
    /// Alternator key pair.
    Alternator,
    /// CQL client certificate.
    TlsIdentity,
}

impl SecretKind {
    const ALL: [Self; 3] = [Self::Cql, Self::Alternator, Self::TlsIdentity];

    fn key(self) -> &'static str {
        match self {
            Self::Cql => "cql_creds",
            Self::Alternator => "alternator_creds",
            Self::TlsIdentity => "tls_identity",
        }
    }
}

/// User and password of CQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CqlCredentials {
    /// User.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// Key pair of Alternator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlternatorCredentials {
    /// Key ID.
    pub access_key_id: String,
    /// Secret key.
    pub secret_access_key: Secret,
}

/// Client certificate for CQL, both parts PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// Certificate chain.
    pub certificate: Vec<u8>,
    /// Its key.
    pub private_key: Secret,
}

/// All secrets of a cluster; in a write, absent ones are left as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// CQL login.
    pub cql: Option<CqlCredentials>,
    /// Alternator login.
    pub alternator: Option<AlternatorCredentials>,
    /// CQL client certificate.
    pub tls_identity: Option<TlsIdentity>,
}

#[derive(Serialize, Deserialize)]
struct CqlRow {
    username: String,
    password: String,
}

#[derive(Serialize, Deserialize)]
struct AlternatorRow {
    access_key_id: String,
    secret_access_key: String,
}

/// Base64, as the original stores it.
#[derive(Serialize, Deserialize)]
struct TlsIdentityRow {
    cert: String,
    private_key: String,
}

impl Store {
    /// The secrets of a cluster.
    ///
    /// # Errors
    /// The database failed, or a stored secret is not readable.
    pub async fn secrets(&self, cluster: ClusterId) -> Result<Secrets, StoreError> {
        self.read(move |c| {
            let get = |kind: SecretKind| -> Result<Option<Vec<u8>>, StoreError> {
                let sql = "SELECT value FROM secrets WHERE cluster_id = ?1 AND key = ?2";
                let row = c.query_row(sql, (cluster.to_string(), kind.key()), |row| row.get(0));
                Ok(row.optional()?)
            };
            let cql = get(SecretKind::Cql)?.map(|v| cql(&v)).transpose()?;
            let alternator = get(SecretKind::Alternator)?.map(|v| alternator(&v)).transpose()?;
            let tls_identity = get(SecretKind::TlsIdentity)?.map(|v| tls_identity(&v)).transpose()?;
            Ok(Secrets { cql, alternator, tls_identity })
        })
        .await
    }

    /// Which kinds of secret each cluster has.
    ///
    /// # Errors
    /// The database failed.
    pub async fn secret_kinds(&self) -> Result<BTreeMap<ClusterId, BTreeSet<SecretKind>>, StoreError> {
        self.read(|c| {
            let mut statement = c.prepare("SELECT cluster_id, key FROM secrets")?;
            let mut rows = statement.query([])?;
            let mut kinds: BTreeMap<ClusterId, BTreeSet<SecretKind>> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let key: String = row.get("key")?;
                if let Some(kind) = SecretKind::ALL.into_iter().find(|k| k.key() == key) {
                    kinds.entry(get_id(row, "cluster_id")?).or_default().insert(kind);
                }
            }
            Ok(kinds)
        })
        .await
    }

    /// Deletes secrets of a cluster; absent ones are no error.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_secrets(&self, cluster: ClusterId, kinds: Vec<SecretKind>) -> Result<(), StoreError> {
        self.write(move |tx| {
            for kind in kinds {
                let sql = "DELETE FROM secrets WHERE cluster_id = ?1 AND key = ?2";
                tx.execute(sql, (cluster.to_string(), kind.key()))?;
            }
            Ok(())
        })
        .await
    }

    /// Puts a small value into the drawer of a cluster.
    ///
    /// # Errors
    /// The database failed.
    pub async fn put_drawer(&self, cluster: ClusterId, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.write(move |tx| {
            let sql = "INSERT INTO drawer (cluster_id, key, value) VALUES (?1, ?2, ?3) \
                       ON CONFLICT (cluster_id, key) DO UPDATE SET value = ?3";
            tx.execute(sql, (cluster.to_string(), key, value))?;
            Ok(())
        })
        .await
    }

    /// Takes a value out of the drawer; absent ones are no error.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete_drawer(&self, cluster: ClusterId, key: &str) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.write(move |tx| {
            tx.execute("DELETE FROM drawer WHERE cluster_id = ?1 AND key = ?2", (cluster.to_string(), key))?;
            Ok(())
        })
        .await
    }

    /// Everything in all drawers whose key begins with `prefix`: `(cluster, key, value)`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn drawers(&self, prefix: &str) -> Result<Vec<(ClusterId, String, Vec<u8>)>, StoreError> {
        let prefix = prefix.to_owned();
        self.read(move |c| {
            let mut statement = c.prepare("SELECT * FROM drawer ORDER BY cluster_id, key")?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let key: String = row.get("key")?;
                if key.starts_with(&prefix) {
                    found.push((get_id(row, "cluster_id")?, key, row.get("value")?));
                }
            }
            Ok(found)
        })
        .await
    }
}

pub(super) fn put(tx: &Transaction<'_>, cluster: ClusterId, secrets: &Secrets) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    if let Some(c) = &secrets.cql {
        let row = CqlRow { username: c.username.clone(), password: c.password.expose().to_owned() };
        rows.push((SecretKind::Cql, super::json_text(&row)?));
    }
    if let Some(a) = &secrets.alternator {
        let row = AlternatorRow {
            access_key_id: a.access_key_id.clone(),
            secret_access_key: a.secret_access_key.expose().to_owned(),
        };
        rows.push((SecretKind::Alternator, super::json_text(&row)?));
    }
    if let Some(t) = &secrets.tls_identity {
        let row = TlsIdentityRow {
            cert: STANDARD.encode(&t.certificate),
            private_key: STANDARD.encode(t.private_key.expose()),
        };
        rows.push((SecretKind::TlsIdentity, super::json_text(&row)?));
    }
    for (kind, value) in rows {
        let sql = "INSERT INTO secrets (cluster_id, key, value) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (cluster_id, key) DO UPDATE SET value = ?3";
        tx.execute(sql, (cluster.to_string(), kind.key(), value.into_bytes()))?;
    }
    Ok(())
}

fn cql(value: &[u8]) -> Result<CqlCredentials, StoreError> {
    let row: CqlRow = serde_json::from_slice(value).map_err(unreadable)?;
    Ok(CqlCredentials { username: row.username, password: Secret::new(row.password) })
}

fn alternator(value: &[u8]) -> Result<AlternatorCredentials, StoreError> {
    let row: AlternatorRow = serde_json::from_slice(value).map_err(unreadable)?;
    let secret_access_key = Secret::new(row.secret_access_key);
    Ok(AlternatorCredentials { access_key_id: row.access_key_id, secret_access_key })
}

fn tls_identity(value: &[u8]) -> Result<TlsIdentity, StoreError> {
    let row: TlsIdentityRow = serde_json::from_slice(value).map_err(unreadable)?;
    let certificate = STANDARD.decode(row.cert).map_err(unreadable)?;
    let key = STANDARD.decode(row.private_key).map_err(unreadable)?;
    let private_key = Secret::new(String::from_utf8(key).map_err(|_| unreadable("the key is not PEM"))?);
    Ok(TlsIdentity { certificate, private_key })
}

/// Never quotes the value: it is a secret. (Messages of the JSON parser name positions and fields only.)
fn unreadable(reason: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { column: "secrets.value".into(), value: "***".into(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::clusters::tests::sample;
    use crate::store::tests::scratch;

    #[tokio::test]
    async fn secrets_are_kept_replaced_and_removed_one_by_one() {
        let (_dir, store) = scratch().await;
        let cluster = sample("a");
        let cql = CqlCredentials { username: "u".into(), password: Secret::new("hunter2") };
        let tls_identity = TlsIdentity { certificate: b"PEM".to_vec(), private_key: Secret::new("KEY") };
        let all = Secrets { cql: Some(cql), alternator: None, tls_identity: Some(tls_identity) };
        store.put_cluster(&cluster, all.clone()).await.unwrap();
        store.put_cluster(&cluster, Secrets::default()).await.unwrap();
        assert_eq!(store.secrets(cluster.id).await.unwrap(), all);
        assert!(!format!("{all:?}").contains("hunter2"));

        store
            .delete_secrets(cluster.id, vec![SecretKind::TlsIdentity, SecretKind::Alternator])
            .await
            .unwrap();
        let kinds = store.secret_kinds().await.unwrap();
        assert_eq!(kinds[&cluster.id], BTreeSet::from([SecretKind::Cql]));
        store.delete_cluster(cluster.id).await.unwrap();
        assert_eq!(store.secrets(cluster.id).await.unwrap(), Secrets::default());
    }

    #[tokio::test]
    async fn drawers_are_found_by_prefix() {
        let (_dir, store) = scratch().await;
        let cluster = ClusterId::random();
        store.put_drawer(cluster, "switched_off/balancing", b"1".to_vec()).await.unwrap();
        store.put_drawer(cluster, "switched_off/balancing", b"2".to_vec()).await.unwrap();
        store.put_drawer(cluster, "scheduler_suspended", b"{}".to_vec()).await.unwrap();
        let found = store.drawers("switched_off/").await.unwrap();
        assert_eq!(found, [(cluster, "switched_off/balancing".to_owned(), b"2".to_vec())]);
        store.delete_drawer(cluster, "switched_off/balancing").await.unwrap();
        assert!(store.drawers("switched_off/").await.unwrap().is_empty());
    }
}
