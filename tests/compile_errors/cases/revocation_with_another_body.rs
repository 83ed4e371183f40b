use tonic::transport::Channel;
use tower::Service;
use tower_oauth2_client::{ClientAuthentication, RevocationRequest, TokenEndpoint};

pub fn revocation(
    channel: Channel,
    client: ClientAuthentication,
) -> impl Service<RevocationRequest> {
    TokenEndpoint::discover(channel, "https://as.example", client).revocation()
}
