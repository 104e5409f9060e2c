"""What DVC 3.67 prints when something is wrong with the bucket, and what Backbeat says instead.

Each text was printed by DVC in a run against `s3_proxy.py`; some of these runs are repeated in `test_dvc_errors.py`.
"""

from dataclasses import dataclass

from bucket_failures import AGAIN, BOTH_KEYS, CAPPED_STORAGE, CHECKSUMS, FEWER_JOBS, NEW_KEY, NO_BUCKET, SEE_KEYS

NO_REASON = "the service refuses the keys, and does not say why"
ASK_DOCTOR = "backbeat doctor finds out; a wrong key, region or clock and a missing right all look like this"
SOME_MISSING = "the bucket does not hold all that Git's pointers need"
SEE_STATUS = "backbeat cloud status names it; then backbeat cloud push in a clone that has it"

CONNECT = "ERROR: failed to connect to s3 (your-bucket/dvc/files/md5) - "
NOT_PULLED = "\nERROR: failed to pull data from the cloud - 1 files failed to download\n"
UNEXPECTED = "ERROR: unexpected error - "
SUPPORT = "\n\nHaving any troubles? Hit us up at https://dvc.org/support, we are always happy to help!\n"
NOT_CHECKED_OUT = (
    "Checkout failed for following targets:\ndata/x\nIs your cache up to date?\n<https://error.dvc.org/missing-files>\n"
)
CALLING = "An error occurred ({}) when calling the {} operation"


@dataclass(frozen=True)
class Message:
    """A message of DVC.

    Args:
        wrong: what was wrong.
        printed: what DVC printed.
        telling: the part of it that tells this failure from others.
        says: the reason that Backbeat gives.
        next_step: what it says to do.
        expected: what it says would be right.
        got: what it says was there.
    """

    wrong: str
    printed: str
    telling: str
    says: str
    next_step: str
    expected: str | None = None
    got: str | None = None


MESSAGES = [
    Message(
        "A wrong key, or a wrong clock, or no right to read",
        f"{CONNECT}Forbidden: {CALLING.format(403, 'HeadObject')}: Forbidden{NOT_PULLED}",
        CALLING.format(403, "HeadObject"),
        NO_REASON,
        ASK_DOCTOR,
        None,
        "403 for HeadObject",
    ),
    Message(
        "A wrong key, or a wrong clock, or no right to read",
        f"{UNEXPECTED}Forbidden: {CALLING.format(403, 'HeadObject')}: Forbidden{SUPPORT}",
        CALLING.format(403, "HeadObject"),
        NO_REASON,
        ASK_DOCTOR,
        None,
        "403 for HeadObject",
    ),
    Message(
        "Keys that have expired, or a wrong region at Amazon",
        f"{UNEXPECTED}[Errno 22] Bad Request: {CALLING.format(400, 'HeadObject')}: Bad Request{SUPPORT}",
        CALLING.format(400, "HeadObject"),
        NO_REASON,
        ASK_DOCTOR,
        None,
        "400 for HeadObject",
    ),
    Message(
        "No keys",
        f"{CONNECT}Error when retrieving credentials from custom-process: sh: 1: B2_ACCOUNT_ID: is not set\n"
        f"{NOT_PULLED}",
        "B2_ACCOUNT_ID: is not set",
        "there are no keys to it",
        SEE_KEYS,
        BOTH_KEYS,
        "B2_ACCOUNT_ID not set",
    ),
    Message(
        "Half a key",
        f"{UNEXPECTED}Error when retrieving credentials from custom-process: sh: 1: B2_APPLICATION_KEY: is not set\n"
        f"{SUPPORT}",
        "B2_APPLICATION_KEY: is not set",
        "there are no keys to it",
        SEE_KEYS,
        BOTH_KEYS,
        "B2_APPLICATION_KEY not set",
    ),
    Message(
        "No keys, and a configuration without the template's configpath",
        f"{CONNECT}Unable to locate credentials{NOT_PULLED}",
        "Unable to locate credentials",
        "there are no keys to it",
        SEE_KEYS,
        BOTH_KEYS,
        "none of them",
    ),
    Message(
        "A key without listFiles",
        f"{CONNECT}Access Denied: {CALLING.format('AccessDenied', 'ListObjectsV2')}: Access Denied{NOT_PULLED}",
        CALLING.format("AccessDenied", "ListObjectsV2"),
        "the key may not list",
        NEW_KEY,
        "the right listFiles",
        "AccessDenied",
    ),
    Message(
        "A key without readFiles",
        f"{UNEXPECTED}Access Denied: {CALLING.format('AccessDenied', 'GetObject')}: Access Denied{SUPPORT}",
        CALLING.format("AccessDenied", "GetObject"),
        "the key may not read",
        NEW_KEY,
        "the right readFiles",
        "AccessDenied",
    ),
    Message(
        "A push with the key for pulling",
        "ERROR: failed to transfer 'd9092f9b8c5aa5fcc14db4b84311e9d0' - Access Denied: "
        f"{CALLING.format('AccessDenied', 'PutObject')}: Access Denied\n"
        "ERROR: failed to push data to the cloud - 2 files failed to upload\n",
        CALLING.format("AccessDenied", "PutObject"),
        "the key may not write",
        NEW_KEY,
        "the right writeFiles",
        "AccessDenied",
    ),
    Message(
        "No such bucket: push",
        f"{UNEXPECTED}The specified bucket does not exist: {CALLING.format('NoSuchBucket', 'ListObjectsV2')}: "
        f"The specified bucket does not exist{SUPPORT}",
        CALLING.format("NoSuchBucket", "ListObjectsV2"),
        "there is no bucket your-bucket there",
        NO_BUCKET,
        "a bucket of this account, in region us-west-004",
        "NoSuchBucket",
    ),
    Message(
        "No such bucket, or nothing was pushed: pull",
        "WARNING: Some of the cache files do not exist neither locally nor on remote. Missing cache files:\n"
        "md5: 2afd3af685770368410bf967f30e2ce6.dir\n"
        f"ERROR: failed to pull data from the cloud - {NOT_CHECKED_OUT}",
        "do not exist neither locally nor on remote. Missing cache files",
        SOME_MISSING,
        SEE_STATUS,
    ),
    Message(
        "An object is missing in the bucket",
        "ERROR: failed to transfer '04a4661e1d8003b41884961328fd5670' - "
        f"{CALLING.format('NoSuchKey', 'GetObject')}: Unknown: {CALLING.format('NoSuchKey', 'GetObject')}: Unknown\n"
        "ERROR: failed to pull data from the cloud - 2 files failed to download\n",
        CALLING.format("NoSuchKey", "GetObject"),
        SOME_MISSING,
        SEE_STATUS,
    ),
    Message(
        "An object is damaged in the bucket, or on its way",
        f"ERROR: failed to pull data from the cloud - {NOT_CHECKED_OUT}",
        "Checkout failed for following targets",
        "something arrived that is not what it should be",
        "the same command again; if it stays so: backbeat verify --remote --repair in a clone that has it whole",
    ),
    Message(
        "A connection that is closed in the middle, again and again",
        "ERROR: failed to transfer '26aa3f69bccad41675e8bb8c4dffca4d' - Response payload is not completed: "
        "<ContentLengthError: 400, message='Not enough data to satisfy content length header (received 100 of 49600 "
        "bytes).'>. ConnectionResetError(104, 'Connection reset by peer'): 400, message:\n"
        "  Not enough data to satisfy content length header (received 100 of 49600 bytes).\n"
        "ERROR: failed to pull data from the cloud - 2 files failed to download\n",
        "Response payload is not completed",
        "http://127.0.0.1:9 ended the connection early",
        AGAIN,
    ),
    Message(
        "A service that falls silent in the middle",
        "ERROR: failed to transfer '26aa3f69bccad41675e8bb8c4dffca4d' - Read timeout on endpoint URL: "
        '"http://127.0.0.1:9/your-bucket/dvc/files/md5/26/aa3f69bccad41675e8bb8c4dffca4d"\n'
        "ERROR: failed to pull data from the cloud - 2 files failed to download\n",
        "Read timeout on endpoint URL",
        "http://127.0.0.1:9 said nothing for 60 s",
        AGAIN,
    ),
    Message(
        "The account's cap on storage",
        f"ERROR: failed to transfer 'fd0543aa0a59c7a714cac4ce110205b6' - {CAPPED_STORAGE}: "
        f"{CALLING.format('AccessDenied', 'PutObject')}: {CAPPED_STORAGE}\n"
        "ERROR: failed to push data to the cloud - 2 files failed to upload\n",
        "storage cap exceeded. See the Caps & Alerts page",
        "the account's cap on storage is reached",
        "raise it in Backblaze's console, on the page Caps & Alerts",
        None,
        CAPPED_STORAGE,
    ),
    Message(
        "An AWS_CONFIG_FILE of one's own",
        f"{UNEXPECTED}[Errno 22] Unsupported header 'x-amz-checksum-mode' received for this API call.: "
        f"{CALLING.format('InvalidArgument', 'GetObject')}: "
        f"Unsupported header 'x-amz-checksum-mode' received for this API call.{SUPPORT}",
        "Unsupported header 'x-amz-checksum-mode' received for this API call",
        "the client sent checksum headers, which the service does not know",
        CHECKSUMS,
        "request_checksum_calculation = when_required, as the configpath of remote b2 has it",
        "a client with its defaults",
    ),
    Message(
        "Too many requests",
        f"{CONNECT}[Errno 16] Service Unavailable: {CALLING.format(503, 'HeadObject')} (reached max retries: 4): "
        f"Service Unavailable{NOT_PULLED}",
        CALLING.format(503, "HeadObject"),
        "the service is busy, also after several tries",
        FEWER_JOBS,
        None,
        "503",
    ),
    Message(
        "The service itself",
        f"{CONNECT}[Errno 121] Internal Server Error: {CALLING.format(500, 'HeadObject')} (reached max retries: 4): "
        f"Internal Server Error{NOT_PULLED}",
        CALLING.format(500, "HeadObject"),
        "the service failed, also after several tries",
        "the same command again later; Backblaze reports its failures at status.backblaze.com",
        None,
        "500",
    ),
    Message(
        "No network, or a wrong address",
        f'{CONNECT}Could not connect to the endpoint URL: "http://127.0.0.1:9/your-bucket/dvc/files/md5"{NOT_PULLED}',
        "Could not connect to the endpoint URL",
        "there is no connection to http://127.0.0.1:9",
        "check the network, and endpointurl in .dvc/config",
    ),
    Message(
        "TLS",
        f"{CONNECT}SSL validation failed for https://127.0.0.1:9/your-bucket/dvc/files/md5 Cannot connect to host "
        f"127.0.0.1:9 ssl:default [[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)]{NOT_PULLED}",
        "SSL validation failed for https://",
        "there is no secure connection to http://127.0.0.1:9",
        "check this machine's clock and certificates, whether a proxy stands in between, and http or https",
        None,
        "wrong_version_number",
    ),
    Message(
        "Another DVC at work",
        "ERROR: failed to pull data from the cloud - Unable to acquire lock. Most likely another DVC process is "
        "running or was terminated abruptly. Check the page "
        "<https://dvc.org/doc/user-guide/troubleshooting#lock-issue> for other possible reasons and to learn how to "
        "resolve this.\n",
        "Unable to acquire lock",
        "another DVC process is at work in this clone",
        "wait for it to end; if there is none: backbeat doctor names the lock that is left over",
    ),
    Message(
        "The disk of DVC's cache is full",
        "ERROR: failed to transfer 'e836678b79dadebdabad79fe750d7e01' - [Errno 28] No space left on device\n"
        "ERROR: failed to transfer '04a4661e1d8003b41884961328fd5670' - [Errno 28] No space left on device\n"
        "ERROR: failed to pull data from the cloud - 4 files failed to download\n",
        "[Errno 28] No space left on device",
        "the disk of DVC's cache is full",
        "free some space, or backbeat storage evict; then the same command again",
        None,
        "No space left on device",
    ),
    Message(
        "Anything else",
        "ERROR: configuration error - config file error: Duplicate keyword name at line 3.\n",
        "configuration error",
        "DVC failed with exit code 255",
        "backbeat doctor",
        None,
        "configuration error - config file error: Duplicate keyword name at line 3.",
    ),
]
