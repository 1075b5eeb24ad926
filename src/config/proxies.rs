//! `proxies`: who may say where a request came from.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The proxies in front of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Proxies {
    /// Addresses of proxies whose headers are believed. Nobody's, if there are none.
    #[schemars(with = "Vec<String>")]
    pub trusted: Vec<Cidr>,
    /// The headers that these proxies write. The others come from whoever made the request and don't count.
    pub headers: ForwardingHeaders,
}

/// Which headers carry what a proxy knows of its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ForwardingHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl Proxies {
    /// Whether what comes from this address is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(address))
    }
}

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of addresses: write it as 10.0.0.0/8 or fd00::/8")]
pub struct CidrError(String);

impl Cidr {
    /// An IPv4 address is the same whether it comes as such or mapped into IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                (range.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                (range.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let refused = || CidrError(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refused())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // A number as it is usually written: no sign, which `u8` would take.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| refused())?
            }
            Some(_) => return Err(refused()),
            None => longest,
        };
        if prefix > longest { Err(refused()) } else { Ok(Self { address, prefix }) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::inside("10.0.0.0/8", "10.255.0.1", true)]
    #[case::outside("10.0.0.0/8", "11.0.0.1", false)]
    #[case::host_bits_do_not_count("10.1.2.3/8", "10.9.9.9", true)]
    #[case::one_address("10.0.0.1", "10.0.0.1", true)]
    #[case::next_to_one_address("10.0.0.1/32", "10.0.0.0", false)]
    #[case::all("0.0.0.0/0", "203.0.113.9", true)]
    #[case::all_of_the_other_family("0.0.0.0/0", "2001:db8::1", false)]
    #[case::mapped("10.0.0.0/8", "::ffff:10.0.0.1", true)]
    #[case::version_six("fd00::/8", "fdff::1", true)]
    #[case::outside_version_six("fd00::/8", "fe00::1", false)]
    #[case::all_version_six("::/0", "2001:db8::1", true)]
    fn contains(#[case] range: Cidr, #[case] address: IpAddr, #[case] expected: bool) {
        assert_eq!(range.contains(address), expected);
    }

    #[rstest]
    #[case("")]
    #[case("10.0.0.0/33")]
    #[case("fd00::/129")]
    #[case("10.0.0.0/")]
    #[case("10.0.0.0/+8")]
    #[case("10.0.0/8")]
    #[case("all")]
    fn refuses(#[case] text: &str) {
        assert!(text.parse::<Cidr>().is_err());
    }

    #[test]
    fn reads_what_it_writes() {
        let proxies: Proxies =
            serde_saphyr::from_str("trusted: [10.0.0.0/8, \"fd00::1\"]\nheaders: forwarded\n").unwrap();
        assert_eq!(proxies.headers, ForwardingHeaders::Forwarded);
        assert_eq!(serde_saphyr::from_str::<Proxies>(&serde_saphyr::to_string(&proxies).unwrap()).unwrap(), proxies);
    }
}
