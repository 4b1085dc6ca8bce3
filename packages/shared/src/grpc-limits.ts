import type { ChannelOptions } from '@grpc/grpc-js';

/** Limits of every gRPC connection of the mesh. */
export const GRPC_LIMITS = {
  maxConcurrentStreams: 64,
  /** MB per HTTP/2 session. */
  maxSessionMemory: 16,
  maxMessageBytes: 1024 * 1024,
  maxConnectionAgeMs: 3_600_000,
  keepaliveTimeMs: 20_000,
  keepaliveTimeoutMs: 10_000,
  /** grpc-js would let its back-off grow to 120 s; it adds 20 % jitter itself. */
  maxReconnectBackoffMs: 5_000,
  initialReconnectBackoffMs: 250,
} as const;

/** Server options of the mesh's limits. */
export function serverOptions(): ChannelOptions {
  return {
    'grpc.max_concurrent_streams': GRPC_LIMITS.maxConcurrentStreams,
    'grpc.max_receive_message_length': GRPC_LIMITS.maxMessageBytes,
    'grpc.max_send_message_length': 16 * GRPC_LIMITS.maxMessageBytes,
    'grpc.max_connection_age_ms': GRPC_LIMITS.maxConnectionAgeMs,
    'grpc.max_connection_age_grace_ms': 60_000,
    'grpc.keepalive_time_ms': GRPC_LIMITS.keepaliveTimeMs,
    'grpc.keepalive_timeout_ms': GRPC_LIMITS.keepaliveTimeoutMs,
    'grpc-node.max_session_memory': GRPC_LIMITS.maxSessionMemory,
  };
}

/** Channel options of a node's connection to the index: back-off capped at 5 s, keepalive, no proxy from the environment. */
export function channelOptions(): ChannelOptions {
  return {
    'grpc.initial_reconnect_backoff_ms': GRPC_LIMITS.initialReconnectBackoffMs,
    'grpc.max_reconnect_backoff_ms': GRPC_LIMITS.maxReconnectBackoffMs,
    'grpc.keepalive_time_ms': GRPC_LIMITS.keepaliveTimeMs,
    'grpc.keepalive_timeout_ms': GRPC_LIMITS.keepaliveTimeoutMs,
    'grpc.max_receive_message_length': 16 * GRPC_LIMITS.maxMessageBytes,
    'grpc.max_send_message_length': GRPC_LIMITS.maxMessageBytes,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    // The index is known by its CA and its URI, not by a DNS name; an IP address may not stand in SNI (RFC 6066 3).
    'grpc.ssl_target_name_override': 'meridian-index',
  };
}
