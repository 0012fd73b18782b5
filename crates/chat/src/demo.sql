-- Two bookings with a client and an operator each. Running it again changes nothing.
insert into public.bookings (id, code, client_id, client_name) values
  ('0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c01', 'REQ1759286674249', '6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f01', 'Amira Haddad'),
  ('0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c02', 'REQ1759286674250', '6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f02', 'Jonas Weber')
on conflict (id) do update
  set client_id = excluded.client_id, client_name = excluded.client_name
  where (bookings.client_id, bookings.client_name) is distinct from (excluded.client_id, excluded.client_name);

insert into public.messages (booking_id, client_id, sender_role, sender_id, content) values
  ('0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c01', 'demo-1', 'client', '6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f01',
   'Hello, did you get my request?'),
  ('0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c02', 'demo-1', 'client', '6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f02',
   'Good morning. We need four people on Monday.'),
  ('0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c02', 'demo-2', 'operator', '6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f12',
   'Good morning, that works. I will confirm it in a moment.')
on conflict (booking_id, client_id) do nothing;

update public.bookings set status = 'accepted'
 where id = '0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c02' and status = 'pending' and status_version = 1;

insert into public.messages (booking_id, client_id, sender_role, sender_id, content) values
  ('0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c02', 'demo-3', 'client', '6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f02', 'Thank you!')
on conflict (booking_id, client_id) do nothing;

insert into public.assignments (booking_id, operator_id, operator_name)
select '0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c02', '6f6e1c0e-0f7e-4a3e-9b45-3a4f0c6f7f12', 'Luis'
 where not exists (select from public.assignments where booking_id = '0b5f2f5e-7d0c-4f0e-9c55-0a1d5a4d1c02');

insert into public.canned_replies (shortcut, locale, body) values
  ('hello', 'en', 'Hello {{client_name}}, thank you for writing. How can we help you with {{booking_code}}?'),
  ('moment', 'en', 'One moment please, I am checking this for you.'),
  ('eta', 'en', 'Our team is on the way and will be with you shortly.'),
  ('bye', 'en', 'Is there anything else we can do for you, {{client_name}}?'),
  ('hello', 'de', 'Guten Tag {{client_name}}, danke für Ihre Nachricht. Wie können wir Ihnen bei {{booking_code}} helfen?'),
  ('moment', 'de', 'Einen Moment bitte, ich sehe für Sie nach.')
on conflict (shortcut, locale) do nothing;
