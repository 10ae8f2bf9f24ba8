"""The state: the parts of one emulator, and what needs several of them."""

from typing import Any

from attrs import define, field

from seedance_async.emulator.accounts import Accounts
from seedance_async.emulator.clock import Changes, Clock
from seedance_async.emulator.contract import Contract
from seedance_async.emulator.injection import Faults
from seedance_async.emulator.jobs import Jobs, SimulatedJob
from seedance_async.emulator.ledger import Ledger
from seedance_async.emulator.media import Media
from seedance_async.emulator.model_cards import ModelCards
from seedance_async.emulator.options import EmulatorOptions
from seedance_async.emulator.request_log import RequestLog
from seedance_async.emulator.webhooks import Webhooks


@define(eq=False)
class State:
    """The parts that the routes use. ``origin`` is known once the server listens."""

    options: EmulatorOptions
    clock: Clock
    changes: Changes
    models: ModelCards
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
        """Call the webhook, and return the credits if the options say so."""
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
        """The body of a status query, with a fresh output URL if the job has succeeded.

        "Image to Video", "Query Result": the output URL is only returned once the job succeeded.
        """
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
