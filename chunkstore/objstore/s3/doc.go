// SPDX-License-Identifier: Apache-2.0

// Package s3 is an object store in a bucket, by the S3 protocol.
//
//	S1  An object is one PUT with "If-None-Match: *", never a multipart upload:
//	    its completion would overwrite.
//	S2  This package does not repeat a call; package retry does. (minio-go's own
//	    retries are off. Go's HTTP transport repeats a request by itself only if
//	    nothing of it was sent, or if it only reads.)
//	S3  A missing bucket is not a missing object (objstore I6). The answer to HEAD
//	    can't tell them apart, so a Stat that finds nothing asks by GET for the reason.
//	S4  A connection over which nothing moves for two minutes is cut, however long
//	    the whole transfer takes.
//
// What is computed over an object's bytes: CRC-32C, sent as a header with the
// PUT, signed with it, and checked by stores that know it (up to 20 GB/s with
// the CPU's own instruction). No MD5 and no SHA-256: the payload is
// UNSIGNED-PAYLOAD, also without TLS. Packs and records are authenticated by
// their own encryption, and checked when they are read, so the store's word
// isn't relied upon.
//
// The environment says where and who:
//
//	TIDEMARK_S3_ENDPOINT, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL   first one set; none: Amazon. A host without
//	                        scheme is https; plain http only where http:// is written
//	AWS_REGION, AWS_DEFAULT_REGION                                 first one set; none: the bucket is asked
//	TIDEMARK_S3_PATH_STYLE  true or false; unset: the bucket goes into the host name on Amazon, into the path elsewhere
//	AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN    else AWS_PROFILE in the shared credentials file,
//	                        else web identity (AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN), container or instance role
//
// Start with Open and FromEnv.
package s3
