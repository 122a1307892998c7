//! The way through a proxy that speaks TLS itself: it has trust roots of its own, where the operator names some. This
//! stands under ureq, outside of its semver promise; hence its pinned version.

use super::tls_sentence;
use std::io;
use ureq::Error;
use ureq::config::Config;
use ureq::unversioned::transport::{ConnectionDetails, Connector, DefaultConnector, Transport};

/// Connects as ureq does, but to the proxy with this configuration.
#[derive(Debug)]
pub struct Through {
    pub proxy: Option<Config>,
    pub inner: DefaultConnector,
}

impl Connector<()> for Through {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        // The way to the proxy itself leads through no proxy.
        let Some(config) = self.proxy.as_ref().filter(|_| details.config.proxy().is_none()) else {
            return self.inner.connect(details, chained);
        };
        let details = ConnectionDetails {
            uri: details.uri,
            addrs: details.addrs.clone(),
            config,
            // What the connector remembers of TLS is the CA's.
            request_level: true,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.inner.connect(&details, chained).map_err(|error| match tls_of(&error) {
            Some(why) => Error::Other(tls_sentence(why, "the proxy", "MDHttpProxyCACertificateFile").into()),
            None => error,
        })
    }
}

fn tls_of(error: &Error) -> Option<&rustls::Error> {
    match error {
        Error::Rustls(why) => Some(why),
        Error::Io(why) => tls_in(why),
        _ => None,
    }
}

pub fn tls_in(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
