use tonic::transport::Channel;
use tower::Service;
use tower_oauth2_client::{ClientAuthentication, RevocationEndpoint, RevocationRequest};

pub fn revocation(
    channel: Channel,
    client: ClientAuthentication,
) -> impl Service<RevocationRequest> {
    RevocationEndpoint::discover(channel, "https://as.example", client)
}
