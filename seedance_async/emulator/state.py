"""The state: owns nothing but the putting together of one emulator's parts."""

from typing import Any

from attrs import define, field

from .accounts import Accounts
from .clock import Changes, Clock
from .contract import Contract
from .injection import Faults
from .jobs import Jobs, SimulatedJob
from .ledger import Ledger
from .media import Media
from .options import EmulatorOptions
from .request_log import RequestLog
from .webhooks import Webhooks


@define(eq=False)
class State:
    """The parts that the routes work with. ``origin`` is known once the server listens."""

    options: EmulatorOptions
    clock: Clock
    changes: Changes
    contract: Contract
    accounts: Accounts
    ledger: Ledger
    jobs: Jobs
    faults: Faults
    requests: RequestLog
    media: Media
    webhooks: Webhooks
    origin: str = field(default="")

    def job_ended(self, job: SimulatedJob) -> None:
        """Call back, and give the credits back if the options say so."""
        if self.options.refund_failed and job.status != "succeeded":
            self.ledger.refund(
                account=job.account,
                request_id=job.request_id,
                credits=job.credits,
                reason=job.status,
            )
            self.accounts.refund(job.account, job.credits)
        self.webhooks.job_ended(job)

    def status_body(self, job: SimulatedJob) -> dict[str, Any]:
        """What the status query says about a job, with a fresh output URL if there is one."""
        output = None
        if job.status == "succeeded":
            path = self.media.output_path(job.request_id, self.clock.now())
            output = {"type": "video", "url": f"{self.origin}{path}"}
        return {
            "success": True,
            "requestId": job.request_id,
            "status": job.status,
            "model": job.setting("model"),
            "prompt": job.prompt,
            "duration": int(job.setting("duration")),
            "aspectRatio": job.setting("aspectRatio"),
            "output": output,
            "error": None if job.error is None else dict(job.error),
        }
