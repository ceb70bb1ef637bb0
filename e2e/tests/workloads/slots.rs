//! Whoever shows no token that counts takes nobody's place on the port for workloads, and whoever does takes none but his own.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, ensure};
use strongroom_api::strongroom::v1::{
    EncryptRequest, EncryptResponse, crypto_client::CryptoClient,
};
use tokio::{task::JoinSet, time::timeout};
use tonic::{
    Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_prost::ProstCodec;

use super::support::{DRIVER, LEDGER, LIMIT, Story, with_token};

/// More than a caller may have in work, and fewer than a connection may have open.
const MANY: usize = 100;
const IN_WORK: usize = 64;

#[test]
fn a_call_takes_a_place_of_the_account_that_it_shows_and_none_before() -> Result<()> {
    let story = Story::up("workloads-slots", 29680)?;
    let (ledger, driver) = (
        story.token(&story.east, &LEDGER)?,
        story.token(&story.east, &DRIVER)?,
    );
    story.stage.block_on(async {
        // Calls whose message never comes: without a token that counts they are answered all the same.
        let channel = story.connect().await?;
        for token in [None, Some("no.token.atall")] {
            let mut calls = JoinSet::new();
            for _ in 0..MANY {
                calls.spawn(unfinished(&channel, token)?);
            }
            while let Some(answer) = calls.join_next().await {
                let status = answer?.context("no answer")?;
                ensure!(status.code() == Code::Unauthenticated, "{status:?}");
            }
        }

        // With a token they wait for their message, as many as the account may have; over however many connections.
        let mut held = JoinSet::new();
        let (one, other) = (story.connect().await?, story.connect().await?);
        for number in 0..MANY {
            let channel = if number % 2 == 0 { &one } else { &other };
            held.spawn(unfinished(channel, Some(&ledger))?);
        }
        for _ in IN_WORK..MANY {
            let refused = timeout(LIMIT, held.join_next()).await?;
            let status = refused.context("some are left")??.context("an answer")?;
            ensure!(status.code() == Code::ResourceExhausted, "{status:?}");
        }
        let next = timeout(Duration::from_secs(2), held.join_next()).await;
        ensure!(next.is_err(), "the others wait: {next:?}");

        // Nobody else waits for them.
        let message = EncryptRequest::default();
        let mut client = CryptoClient::new(story.connect().await?);
        let answer = client.encrypt(with_token(message, &driver)?);
        let status = timeout(LIMIT, answer).await?.err().context("a refusal")?;
        ensure!(status.code() == Code::InvalidArgument, "{status:?}");
        Ok(())
    })?;
    story.down()
}

/// A call that sends its headers and nothing else; how it is refused, or nothing when its answer is something else.
fn unfinished(
    channel: &Channel,
    token: Option<&str>,
) -> Result<impl Future<Output = Option<Status>> + Send + 'static> {
    let mut request = Request::new(tokio_stream::pending::<EncryptRequest>());
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse()?;
        request.metadata_mut().insert("authorization", bearer);
    }
    let mut client = Grpc::new(channel.clone());
    Ok(async move {
        client.ready().await.ok()?;
        let path = PathAndQuery::from_static("/strongroom.v1.Crypto/Encrypt");
        let codec = ProstCodec::<EncryptRequest, EncryptResponse>::default();
        client.client_streaming(request, path, codec).await.err()
    })
}
