"""POST /alerts/webhook."""

from fastapi import APIRouter

from app.alerts import service
from app.alerts.schemas import AlertGroup, AlertsReceived
from app.rest import JsonRoute

router = APIRouter(prefix="/alerts", tags=["alerts"], route_class=JsonRoute)


@router.post("/webhook", summary="Alertmanager's copy to us")
async def webhook(group: AlertGroup) -> AlertsReceived:
    """Note the alerts of a group."""
    return AlertsReceived(received=service.receive(group))
