//! Chains beside the CA's own (RFC 8555 §7.4.2).

use super::{Answer, Ca, No};
use edgemd::rules::acme::types::Reply;
use edgemd::rules::pem;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

impl Ca {
    /// For what was issued last: the issuer's key again, under other roots.
    pub(super) fn alternates(&self) -> Vec<String> {
        let leaf = self.issued.last().map(|issued| pem::encode("CERTIFICATE", &issued.der)).unwrap_or_default();
        let chain = |root: &&str| {
            if root.is_empty() {
                return leaf.clone();
            }
            let [above, here] = [*root, "Fake CA"].map(|name| {
                let mut params = CertificateParams::default();
                params.distinguished_name.push(DnType::CommonName, name);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params
            });
            let root = Issuer::new(above, KeyPair::generate().unwrap());
            leaf.clone() + &pem::encode("CERTIFICATE", here.signed_by(self.issuer.key(), &root).unwrap().der())
        };
        self.weather.alternates.iter().map(chain).collect()
    }

    pub(super) fn certificate(&self, index: usize, alternate: Option<&str>) -> Answer {
        let (base, order) = (self.base, &self.orders[index]);
        let chain = match alternate {
            None => Some(&order.chain),
            Some(number) => number.parse().ok().and_then(|number: usize| order.alternates.get(number)),
        };
        let links = (0..order.alternates.len())
            .map(|number| format!("<{base}/certificate/{index}/{number}>;rel=\"alternate\""))
            .chain([format!("<{base}/directory>;rel=\"index\"")]);
        Ok(Reply {
            status: 200,
            content_type: Some("application/pem-certificate-chain".into()),
            links: links.collect(),
            body: chain.ok_or_else(|| No(404, "malformed", "no such chain".into()))?.clone().into_bytes(),
            ..Reply::default()
        })
    }
}
