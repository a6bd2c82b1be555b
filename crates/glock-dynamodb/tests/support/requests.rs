//! `Requests`: what a client sends, counted in the SDK itself.

use std::sync::{Arc, Mutex};

use glock_dynamodb::aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{
            AfterDeserializationInterceptorContextRef, BeforeSerializationInterceptorContextMut,
            BeforeTransmitInterceptorContextRef,
        },
    },
    operation::{
        get_item::{GetItemInput, GetItemOutput},
        update_item::{UpdateItemInput, UpdateItemOutput},
    },
    types::{ConsumedCapacity, ReturnConsumedCapacity},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Counts the requests of the clients that it is an interceptor of, and asks what each consumed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    /// The operation of each, in order.
    sent: Arc<Mutex<Vec<String>>>,
    /// The capacity units of each that was carried out.
    consumed: Arc<Mutex<Vec<f64>>>,
}

impl Requests {
    /// The operations since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    /// The capacity units since the last call.
    pub(crate) fn take_consumed(&self) -> Vec<f64> {
        std::mem::take(&mut self.consumed.lock().unwrap())
    }
}

impl Intercept for Requests {
    fn name(&self) -> &'static str {
        "Requests"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let input = context.input_mut();
        if let Some(update) = input.downcast_mut::<UpdateItemInput>() {
            update.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
        } else if let Some(get) = input.downcast_mut::<GetItemInput>() {
            get.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
        }
        Ok(())
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context.request().headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        self.sent.lock().unwrap().push(operation.to_owned());
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Ok(output) = context.output_or_error() else { return Ok(()) };
        let consumed: Option<&ConsumedCapacity> =
            if let Some(updated) = output.downcast_ref::<UpdateItemOutput>() {
                updated.consumed_capacity()
            } else {
                output.downcast_ref::<GetItemOutput>().and_then(GetItemOutput::consumed_capacity)
            };
        self.consumed.lock().unwrap().extend(consumed.and_then(ConsumedCapacity::capacity_units));
        Ok(())
    }
}
